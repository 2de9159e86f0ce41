//! The health state of an endpoint, and its answer to one of several equal calls.

use super::CallError;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndpointState {
    Healthy,
    /// Responds, but slowly, with an old head or with many errors: used after the healthy ones.
    Degraded,
    /// The last call timed out: used after the others until a probe is answered.
    Suspect,
    /// Receives only probes, and none while its circuit breaker is open.
    Down,
    /// On another chain: never used again.
    Quarantined,
}

impl EndpointState {
    pub const ALL: [Self; 5] = [Self::Healthy, Self::Degraded, Self::Suspect, Self::Down, Self::Quarantined];

    /// For logs and metric labels.
    pub fn code(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Quarantined => "quarantined",
        }
    }

    pub fn is_usable(self) -> bool {
        match self {
            Self::Healthy | Self::Degraded | Self::Suspect => true,
            Self::Down | Self::Quarantined => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointResponse<T> {
    pub endpoint: String,
    pub result: Result<T, CallError>,
}

//! The health state of an endpoint, and its answer to one of several equal calls.

use super::CallError;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndpointState {
    Healthy,
    /// Responds, but slowly, with an old head or with many errors: used after the healthy ones.
    Degraded,
    /// The last call timed out: used after the others until a probe is answered.
    Suspect,
    /// Its plan's quota is spent, or it asked for a long pause: receives only probes.
    Throttled,
    /// Receives only probes, and none while its circuit breaker is open.
    Down,
    /// On another chain: receives nothing but the question for its chain id, once in a while.
    Quarantined,
}

impl EndpointState {
    pub const ALL: [Self; 6] =
        [Self::Healthy, Self::Degraded, Self::Suspect, Self::Throttled, Self::Down, Self::Quarantined];

    /// For logs and metric labels.
    pub fn code(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Suspect => "suspect",
            Self::Throttled => "throttled",
            Self::Down => "down",
            Self::Quarantined => "quarantined",
        }
    }

    pub fn is_usable(self) -> bool {
        match self {
            Self::Healthy | Self::Degraded | Self::Suspect => true,
            Self::Throttled | Self::Down | Self::Quarantined => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointResponse<T> {
    pub endpoint: String,
    pub result: Result<T, CallError>,
}

/// Without the endpoints that are silent.
pub fn real_answers<T>(responses: Vec<EndpointResponse<T>>) -> Vec<T> {
    responses.into_iter().filter_map(|response| response.result.ok()).collect()
}

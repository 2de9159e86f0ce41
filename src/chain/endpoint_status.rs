//! State of the endpoints, for health checks and diagnoses.

use super::CallError;
use crate::registration::Block;
use std::time::Duration;

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
pub struct EndpointStatus {
    pub name: String,
    pub state: EndpointState,
    pub head: Option<Block>,
    /// How far its head is behind the others, by block time.
    pub lag: Option<Duration>,
    /// Mean response time.
    pub latency: Option<Duration>,
    pub consecutive_failures: u32,
    /// Why the endpoint is not healthy.
    pub error: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolStatus {
    /// In order of preference.
    pub endpoints: Vec<EndpointStatus>,
    /// Set while no endpoint's head advances.
    pub stall: Option<ChainStall>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainStall {
    pub head: Block,
    pub duration: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointResponse<T> {
    pub endpoint: String,
    pub result: Result<T, CallError>,
}

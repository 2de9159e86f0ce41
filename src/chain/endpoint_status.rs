//! The endpoints as others see them: what health checks, diagnoses and people look at.

use super::CallError;
use crate::registration::Block;
use std::time::Duration;

/// How much an endpoint is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndpointState {
    /// It takes its share.
    Healthy,
    /// It answers, but late, from behind, or every other time: asked after the healthy ones.
    Degraded,
    /// One call was not answered in time: routed around until a probe is.
    Suspect,
    /// Not asked at all until its circuit closes.
    Down,
    /// On another chain: never asked again.
    Quarantined,
}

impl EndpointState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Healthy, Self::Degraded, Self::Suspect, Self::Down, Self::Quarantined];

    /// The word for logs and metric labels.
    pub fn code(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Quarantined => "quarantined",
        }
    }

    /// Whether it may be asked at all.
    pub fn is_usable(self) -> bool {
        match self {
            Self::Healthy | Self::Degraded | Self::Suspect => true,
            Self::Down | Self::Quarantined => false,
        }
    }
}

/// An endpoint as last seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointStatus {
    /// Its host, with a number where hosts repeat.
    pub name: String,
    /// How much it is trusted.
    pub state: EndpointState,
    /// The newest block it showed.
    pub head: Option<Block>,
    /// How far its head is behind the others', by the blocks' times.
    pub lag: Option<Duration>,
    /// How long it takes to answer, on average.
    pub latency: Option<Duration>,
    /// Calls in a row that it did not answer.
    pub consecutive_failures: u32,
    /// Why it is not healthy.
    pub error: Option<String>,
}

/// All of them, in order of preference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolStatus {
    /// In order of preference.
    pub endpoints: Vec<EndpointStatus>,
    /// Set while no endpoint's head moves.
    pub stall: Option<ChainStall>,
}

/// A chain whose head does not move, whichever endpoint is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainStall {
    /// The block that stays the newest.
    pub head: Block,
    /// For how long.
    pub duration: Duration,
}

/// One endpoint's own answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointResponse<T> {
    /// The endpoint's name.
    pub endpoint: String,
    /// What it says.
    pub result: Result<T, CallError>,
}

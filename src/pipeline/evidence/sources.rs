//! What evidence is gathered from.

use crate::{
    chain::Chain,
    pipeline::{
        blockers::SenderBlockers, head::HeadWatch, in_flight::PendingTxs, settings::Settings,
        single_flight::SingleFlight,
    },
    registration::{BlockedReason, diagnosis::Blocker},
    store::Store,
};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(in crate::pipeline) struct Sources {
    pub(in crate::pipeline) chain: Chain,
    pub(in crate::pipeline) store: Store,
    pub(in crate::pipeline) settings: Arc<Settings>,
    pub(in crate::pipeline) in_flight: Arc<PendingTxs>,
    pub(in crate::pipeline) head: HeadWatch,
    pub(in crate::pipeline) blockers: SenderBlockers,
    /// The blocker behind a blocked reason, shared by every registration with this reason.
    pub(in crate::pipeline) blocker_cache: Arc<SingleFlight<BlockedReason, Option<Blocker>>>,
}

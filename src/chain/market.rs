//! What blocks ask just now: asked once a second at most, however many want to know.

use super::{CallError, Chain, FeeHistory, pool::Worth};
use alloy::primitives::U128;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// How many of the newest blocks are looked at.
const BLOCKS: u64 = 10;
/// An answer is good for so long: five of Base's blocks.
const FRESH: Duration = Duration::from_secs(1);

/// What blocks ask.
#[derive(Clone, PartialEq, Debug)]
pub struct Market {
    /// The priority fee that the node suggests, in wei per gas.
    pub suggested: u128,
    /// The newest blocks; `None` when no node tells.
    pub history: Option<FeeHistory>,
}

/// The last answer, or that there was none, shared by all who ask: a node that is slow to say nothing is not asked for each of them.
#[derive(Clone, Debug, Default)]
pub(super) struct LastMarket(Arc<Mutex<Option<Answer>>>);

/// What came of asking, and when.
type Answer = (Instant, Result<Market, CallError>);

impl Chain {
    /// What blocks ask: an answer that is a second old at most.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn market(&self) -> Result<Market, CallError> {
        let mut last = self.last_market.0.lock().await;
        if let Some((_, market)) = last.as_ref().filter(|(asked, _)| asked.elapsed() < FRESH) {
            return market.clone();
        }
        let tip = self.pool.read("eth_maxPriorityFeePerGas", (), |_: &U128| Worth::Good);
        let (tip, history) = tokio::join!(tip, self.fee_history(BLOCKS));
        // A node that keeps its fee history to itself still suggests a priority fee.
        let market = tip.map(|tip| Market { suggested: tip.to(), history: history.ok() });
        *last = Some((Instant::now(), market.clone()));
        market
    }
}

//! What blocks ask just now: asked once a second at most, however many want to know.

use super::{CallError, Chain, FeeHistory, pool::AnswerQuality};
use alloy::primitives::U128;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// How many of the newest blocks are looked at.
const FEE_HISTORY_BLOCKS: u64 = 10;
/// An answer is good for so long: five of Base's blocks.
const FEE_MARKET_TTL: Duration = Duration::from_secs(1);

/// What blocks ask.
#[derive(Clone, PartialEq, Debug)]
pub struct FeeMarket {
    /// The priority fee that the node suggests, in wei per gas.
    pub suggested_tip: u128,
    /// The newest blocks; `None` when no node tells.
    pub history: Option<FeeHistory>,
}

/// The last answer, or that there was none, shared by all who ask: a node that is slow to say nothing is not asked for each of them.
#[derive(Clone, Debug, Default)]
pub(super) struct FeeMarketCache(Arc<Mutex<Option<CachedFeeMarket>>>);

/// What came of asking, and when.
type CachedFeeMarket = (Instant, Result<FeeMarket, CallError>);

impl Chain {
    /// What blocks ask: an answer that is a second old at most.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn fee_market(&self) -> Result<FeeMarket, CallError> {
        let mut last = self.fee_market_cache.0.lock().await;
        if let Some((_, market)) = last.as_ref().filter(|(asked, _)| asked.elapsed() < FEE_MARKET_TTL) {
            return market.clone();
        }
        let tip = self.pool.read("eth_maxPriorityFeePerGas", (), |_: &U128| AnswerQuality::Accept);
        let (tip, history) = tokio::join!(tip, self.fee_history(FEE_HISTORY_BLOCKS));
        // A node that keeps its fee history to itself still suggests a priority fee.
        let market = tip.map(|tip| FeeMarket { suggested_tip: tip.to(), history: history.ok() });
        *last = Some((Instant::now(), market.clone()));
        market
    }
}

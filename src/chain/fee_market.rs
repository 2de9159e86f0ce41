//! Current fee levels, fetched at most once a second for all callers. No method is indispensable, and a second endpoint
//! is asked before a high priority fee is offered.

use super::{
    CallError, FeeHistory,
    pool::{AnswerQuality, EndpointPool, QUORUM, SECOND_OPINION_TIMEOUT},
    quantity::{Fee, Quantity, Wei},
    rpc_types::{BLOCK_BY_NUMBER, BlockTag, RpcFeeHistory},
};
use crate::{
    registration::policy::tip::{TipReport, lone_endpoint_limit},
    telemetry::{OngoingCondition, events},
};
use alloy::primitives::U64;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

const FEE_HISTORY_BLOCKS: u64 = 10;
/// Five of Base's blocks (200 ms each).
const FEE_MARKET_TTL: Duration = Duration::from_secs(1);
/// For as long the last report counts when no endpoint answers.
const UNANSWERED_TTL: Duration = Duration::from_secs(60);
/// The newest block has to be at least this full where a history shows full blocks.
const MIN_FULLNESS_OF_FULL_BLOCKS: f64 = 0.5;

#[derive(Clone, PartialEq, Debug)]
pub struct FeeMarket {
    /// The priority fee to offer where blocks have room, in wei per gas.
    pub tip: u128,
    /// What the node suggests, in wei per gas: the most that is offered to a node that refuses `tip` as too low.
    pub suggested_tip: u128,
    /// No report supports a higher priority fee than this, in wei per gas.
    pub max_tip: u128,
    /// `None` when no node offers `eth_feeHistory`, or when it contradicts the newest block.
    pub history: Option<FeeHistory>,
}

#[derive(Clone, Debug, Default)]
pub struct FeeMarketCache(Arc<CacheState>);

#[derive(Debug, Default)]
struct CacheState {
    cached: Mutex<Option<CachedFeeMarket>>,
    /// A suggestion far above the offer is logged once.
    ignoring_suggestion: OngoingCondition,
}

#[derive(Clone, Debug)]
struct CachedFeeMarket {
    market: FeeMarket,
    /// When endpoints were last asked, and when one answered.
    asked_at: Instant,
    answered_at: Instant,
}

/// One endpoint's answers.
#[derive(Clone, Debug)]
struct FeeReport {
    tips: TipReport,
    history: Option<FeeHistory>,
}

impl FeeReport {
    fn new(suggested: Option<u128>, above_base_fee: Option<u128>, history: Option<FeeHistory>) -> Self {
        let paid = history.as_ref().map(FeeHistory::tips_paid);
        Self { tips: TipReport { suggested, above_base_fee, paid }, history }
    }

    fn price(&self) -> u128 {
        self.tips.price()
    }
}

impl FeeMarket {
    /// Without any report.
    fn unknown() -> Self {
        let tip = TipReport::default().tip();
        Self { tip, suggested_tip: tip, max_tip: tip, history: None }
    }
}

impl FeeMarketCache {
    /// Callers do not queue up behind a slow node one after the other: what it did not answer is cached too.
    pub async fn get(&self, pool: &EndpointPool) -> FeeMarket {
        let mut cached = self.0.cached.lock().await;
        if let Some(known) = cached.as_ref().filter(|known| known.asked_at.elapsed() < FEE_MARKET_TTL) {
            return known.market.clone();
        }
        let fetched = self.fetch(pool).await;
        let now = Instant::now();
        let known = match (fetched, cached.take()) {
            (Some(market), _) => CachedFeeMarket { market, asked_at: now, answered_at: now },
            (None, Some(known)) if known.answered_at.elapsed() < UNANSWERED_TTL => {
                CachedFeeMarket { asked_at: now, ..known }
            }
            (None, _) => CachedFeeMarket { market: FeeMarket::unknown(), asked_at: now, answered_at: now },
        };
        cached.insert(known).market.clone()
    }

    /// `None` when no endpoint answers any of the methods.
    async fn fetch(&self, pool: &EndpointPool) -> Option<FeeMarket> {
        let base_fee = pool.lowest_base_fee().unwrap_or_default();
        let mut report = first_report(pool, base_fee).await?;
        let mut max_tip = lone_endpoint_limit(base_fee);
        if report.price() > max_tip {
            let reports = other_reports(pool).await;
            if reports.len() >= QUORUM {
                max_tip = u128::MAX;
            }
            report = reports.into_iter().fold(report, |lowest, other| match other.price() < lowest.price() {
                true => other,
                false => lowest,
            });
        }
        let tip = report.tips.tip().min(max_tip);
        match report.tips.ignored_suggestion(tip) {
            Some(suggested) if self.0.ignoring_suggestion.start() => {
                events::priority_fee_suggestion_ignored(suggested, tip);
            }
            Some(_) => {}
            None => drop(self.0.ignoring_suggestion.clear()),
        }
        let suggested_tip = report.tips.suggested.unwrap_or(tip).clamp(tip, max_tip);
        let history = match report.history {
            Some(history) if history.shows_full_blocks() && !is_newest_block_full(pool).await => None,
            history => history,
        };
        Some(FeeMarket { tip, suggested_tip, max_tip, history })
    }
}

async fn first_report(pool: &EndpointPool, base_fee: u128) -> Option<FeeReport> {
    let suggested = pool.read("eth_maxPriorityFeePerGas", (), |_: &Fee| AnswerQuality::Accept);
    let (suggested, history) = tokio::join!(suggested, fee_history(pool, FEE_HISTORY_BLOCKS));
    let (suggested, history) = (suggested.ok().map(Fee::wei), history.ok());
    if suggested.is_some() || history.is_some() {
        return Some(FeeReport::new(suggested, None, history));
    }
    let price = pool.read("eth_gasPrice", (), |_: &Fee| AnswerQuality::Accept).await.ok()?;
    Some(FeeReport::new(None, Some(price.wei().saturating_sub(base_fee)), None))
}

/// Of two endpoints, where as many answer one of the methods.
async fn other_reports(pool: &EndpointPool) -> Vec<FeeReport> {
    let deadline = Instant::now() + SECOND_OPINION_TIMEOUT;
    let (tips, histories) = tokio::join!(
        pool.fan_out::<_, Fee>("eth_maxPriorityFeePerGas", (), QUORUM, deadline),
        pool.fan_out::<_, RpcFeeHistory>("eth_feeHistory", history_params(FEE_HISTORY_BLOCKS), QUORUM, deadline),
    );
    let mut reports = Vec::new();
    for (endpoint, tip) in tips {
        let history = histories.iter().find(|(other, _)| *other == endpoint);
        let history = history.and_then(|(_, history)| history.as_ref().ok()).cloned().map(FeeHistory::from);
        let tip = tip.ok().map(Fee::wei);
        if tip.is_some() || history.is_some() {
            reports.push(FeeReport::new(tip, None, history));
        }
    }
    reports
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcBlockGas {
    gas_used: Quantity,
    gas_limit: Wei,
}

/// Whether the newest block supports a history of full blocks. Without an answer it does not.
async fn is_newest_block_full(pool: &EndpointPool) -> bool {
    let params = (BlockTag::Latest.to_param(), false);
    match pool.read(BLOCK_BY_NUMBER, params, |_: &RpcBlockGas| AnswerQuality::Accept).await {
        Ok(block) => {
            block.gas_used.get() as f64
                >= block.gas_limit.get().saturating_to::<u64>() as f64 * MIN_FULLNESS_OF_FULL_BLOCKS
        }
        Err(_) => false,
    }
}

/// Of the newest `blocks` blocks.
pub async fn fee_history(pool: &EndpointPool, blocks: u64) -> Result<FeeHistory, CallError> {
    let history =
        pool.read("eth_feeHistory", history_params(blocks), |_: &RpcFeeHistory| AnswerQuality::Accept).await?;
    Ok(history.into())
}

fn history_params(blocks: u64) -> (U64, String, [f64; 1]) {
    (U64::from(blocks), BlockTag::Latest.to_param(), [FeeHistory::REWARD_PERCENTILE])
}

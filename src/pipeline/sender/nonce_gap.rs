//! Fills nonces that the chain waits for and no pending transaction of the signer has.
//!
//! A gap appears when a transaction that consumed the nonce is gone: after a reorg, if another program with the same
//! key sent it, or if an endpoint returned a nonce that was too high.

use super::types::{ChainConditions, Sender};
use crate::{
    chain::{self, FanOut, UnsignedTransaction},
    clock::now,
    pipeline::{
        cost,
        in_flight::{PendingTx, Versions},
        tx_state::TxStatus,
    },
    registration::{TransactionId, policy::fees},
    store::{Attempt, NewTransaction, StoreError},
    telemetry::events,
};
use alloy::primitives::Bytes;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

/// Nonces filled per check; most gaps are one nonce long.
const MAX_GAP_FILLS: usize = 4;
/// A wider gap is not filled: no reorg makes one, so that an endpoint was wrong, and filling it costs money. Filling
/// this many costs at most 1,344,000 gas, 0.0067 ETH at the default fee cap.
const MAX_GAP_WIDTH: u64 = 64;
/// Intrinsic gas of a transfer of ether.
const TRANSFER_GAS: u64 = 21_000;

impl Sender {
    /// Fills the nonces between the chain's next nonce and the lowest pending transaction.
    pub(super) async fn fill_nonce_gap(&mut self, lowest: &PendingTx, conditions: Option<ChainConditions>) {
        let now = Instant::now();
        let pending_for = lowest.status().pending_for(now);
        let may_check = self.timers.may_check_nonce_gap(now, pending_for);
        let Some(conditions) = conditions.filter(|conditions| !conditions.stalled && may_check) else { return };
        self.timers.on_nonce_gap_check(now);
        let Some(next) = self.next_nonce_by_quorum().await else { return };
        // A nonce seen as consumed, and not taken back by a head regression since, is no gap: the endpoint lags.
        let next = next.max(self.parts.chain.last_seen_nonce(self.address()).unwrap_or_default());
        let width = lowest.nonce.saturating_sub(next);
        if width > MAX_GAP_WIDTH {
            if self.wide_gap.start() {
                events::nonce_gap_too_wide(self.address(), next, lowest.nonce);
            }
            return;
        }
        self.wide_gap.clear();
        for nonce in (next..lowest.nonce).take(MAX_GAP_FILLS) {
            if let Err(error) = self.fill_nonce(nonce, conditions).await {
                self.on_store_error(&error);
                return;
            }
        }
    }

    /// The highest nonce that a quorum returns; `None` without a quorum.
    async fn next_nonce_by_quorum(&self) -> Option<u64> {
        let answers = self.parts.chain.nonces_from_many(self.address(), FanOut::to_quorum()).await;
        let required = chain::quorum_size(self.parts.chain.endpoint_count());
        let nonces = chain::real_answers(answers);
        nonces.iter().max().copied().filter(|_| nonces.len() >= required)
    }

    /// Fills a nonce with the abandoned transaction of this nonce, if the store has one, or else with a transfer of
    /// nothing.
    ///
    /// The abandoned transaction is tracked again without registrations. A transaction that was confirmed and reorged
    /// out is left to the follower.
    async fn fill_nonce(&mut self, nonce: u64, conditions: ChainConditions) -> Result<(), StoreError> {
        let store = &self.parts.store;
        let Some((id, is_abandoned)) = store.find_transaction_by_nonce(self.address(), nonce).await? else {
            return self.fill_with_transfer(nonce, conditions).await;
        };
        if !is_abandoned {
            return Ok(());
        }
        store.mark_reorged(id, now()).await?;
        if let Some(open) = store.open_transaction(id).await? {
            let hash = open.attempts.last().map(|attempt| attempt.hash).unwrap_or_default();
            events::nonce_gap_filled(id, self.address(), nonce, hash, "its own transaction");
            self.parts.tracker.track(open, None);
        }
        Ok(())
    }

    /// Signs an empty transfer from the signer to itself. Gives up silently where the next check may succeed.
    async fn fill_with_transfer(&mut self, nonce: u64, conditions: ChainConditions) -> Result<(), StoreError> {
        let (chain, signer) = (&self.parts.chain, self.address());
        let cap = chain.max_fee_per_gas();
        let market = chain.fee_market().await;
        // No congestion tip: the transactions behind it wait for the same blocks.
        let tip = fees::priority_fee(market.tip, None, conditions.head.base_fee, cap);
        let Ok(fees) = fees::price(conditions.head.base_fee, tip, cap) else { return Ok(()) };
        let unsigned = UnsignedTransaction {
            chain_id: chain.network().chain_id,
            nonce,
            to: Some(signer),
            calldata: Bytes::new(),
            gas_limit: TRANSFER_GAS,
            fees,
        };
        if !self.timers.may_sign(Instant::now()) {
            return Ok(());
        }
        let (hash, raw) = match self.sign(unsigned).await {
            Ok(signed) => signed,
            Err(error) => {
                warn!(%signer, nonce, %error, "failed to sign nonce gap transaction");
                return Ok(());
            }
        };
        let chain = &self.parts.chain;
        let Ok(max_cost) = cost::max_cost(chain, raw.len(), TRANSFER_GAS, fees).await else { return Ok(()) };
        let (id, at) = (TransactionId::from(Uuid::now_v7()), now());
        let attempt = Attempt { hash, raw, fees };
        let new = NewTransaction {
            id,
            signer,
            nonce,
            gas_limit: TRANSFER_GAS,
            prepared_at: at,
            signed_at: at,
            attempt: attempt.clone(),
            max_cost: max_cost.wei(),
            // Counted, but never delayed by the budget. The transactions behind it are reserved already: if it had to
            // wait for room beside them, they would keep their reservation, and block it, on every following day too.
            daily_budget: None,
        };
        self.parts.store.insert_signed_transaction(&new, &[]).await?;
        let versions = Versions { attempts: vec![attempt], gas_limit: TRANSFER_GAS, batch_size: 0 };
        let tx = PendingTx::new(id, (signer, nonce), at, versions, Vec::new(), TxStatus::signed());
        self.parts.in_flight.insert(Arc::new(tx));
        events::nonce_gap_filled(id, signer, nonce, hash, "a transfer of nothing to itself");
        Ok(())
    }
}

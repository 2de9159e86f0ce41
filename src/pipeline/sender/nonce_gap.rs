//! An earlier nonce of the signer that is missing: nothing that was signed after it can be included until it is filled.
//!
//! It comes about when a transaction of the signer that we did not wait for is gone again: after a reorg, or because it was sent
//! by another program, or because an endpoint told of it and was wrong.

use super::{PendingTx, Sender, StoreError, maintain::ChainConditions};
use crate::{
    chain::{self, FanOut, UnsignedTransaction},
    pipeline::{
        in_flight::{PendingTx as Filler, TxPhase, TxStatus, Versions},
        now, resume,
    },
    registration::{TransactionId, policy::fees},
    store::{Attempt, NewTransaction},
    telemetry::events,
};
use alloy::primitives::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

/// What waits this long may wait for a nonce that is missing, and that is looked at again after as long.
const NONCE_GAP_GRACE: Duration = Duration::from_secs(3);
/// So many are filled at once; a gap is seldom longer than one.
const MAX_GAP_FILLS: usize = 4;
/// Intrinsic gas of a transaction that only moves ether.
const TRANSFER_GAS: u64 = 21_000;

impl Sender {
    /// Looks whether the chain waits for a nonce before the lowest that is out, and fills it.
    pub(super) async fn fill_nonce_gap(&mut self, lowest: &PendingTx, sight: Option<ChainConditions>) {
        let waited = lowest.status().pending_since.is_some_and(|(since, _)| since.elapsed() >= NONCE_GAP_GRACE);
        let Some(sight) = sight.filter(|sight| !sight.stalled && waited && Instant::now() >= self.next_gap_check)
        else {
            return;
        };
        self.next_gap_check = Instant::now() + NONCE_GAP_GRACE;
        let heard = self.context.chain.nonces_from_many(self.address(), FanOut::to_quorum()).await;
        let needed = chain::quorum_size(self.context.chain.endpoint_count());
        let nonces: Vec<u64> = heard.into_iter().filter_map(|witness| witness.result.ok()).collect();
        let Some(next) = nonces.iter().max().copied().filter(|_| nonces.len() >= needed) else { return };
        // What was seen as consumed, and was not taken back since by a head that fell, is no gap: the endpoint is behind.
        let next = next.max(self.context.chain.last_seen_nonce(self.address()).unwrap_or_default());
        for nonce in (next..lowest.nonce).take(MAX_GAP_FILLS) {
            if let Err(error) = self.fill_nonce(nonce, sight).await {
                self.on_store_error(&error);
                return;
            }
        }
    }

    /// With the bytes that were given this nonce and given up since, if there are any: they are followed again, with nothing to
    /// register. Else with a transaction that does nothing. What was confirmed and reorged out is the follower's to find.
    async fn fill_nonce(&mut self, nonce: u64, sight: ChainConditions) -> Result<(), StoreError> {
        let store = &self.context.store;
        if let Some((id, given_up)) = store.find_transaction_by_nonce(self.address(), nonce).await? {
            if !given_up {
                return Ok(());
            }
            store.mark_reorged(id, now()).await?;
            if let Some(open) = store.open_transaction(id).await? {
                let hash = open.attempts.last().map(|attempt| attempt.hash).unwrap_or_default();
                events::nonce_gap_filled(id, self.address(), nonce, hash, "its own transaction");
                resume::track(&self.context, open, None);
            }
            return Ok(());
        }
        let cap = self.context.chain.max_fee_per_gas();
        let Ok(market) = self.context.chain.fee_market().await else { return Ok(()) };
        // What is behind it waits for the same fees.
        let tip = fees::priority_fee(market.suggested_tip, None, sight.head.base_fee, cap);
        let Ok(fees) = fees::price(sight.head.base_fee, tip, cap) else { return Ok(()) };
        let unsigned = UnsignedTransaction {
            chain_id: self.context.chain.network().chain_id,
            nonce,
            to: Some(self.address()),
            calldata: Bytes::new(),
            gas_limit: TRANSFER_GAS,
            fees,
        };
        let Ok((hash, raw)) = chain::sign(&self.signer, &unsigned) else {
            warn!(signer = %self.address(), nonce, "a missing nonce could not be filled: the signer does not sign");
            return Ok(());
        };
        let Ok(worst) = self.max_cost(raw.len(), TRANSFER_GAS, fees).await else { return Ok(()) };
        let (id, at, signer) = (TransactionId::from(Uuid::now_v7()), now(), self.address());
        let attempt = Attempt { hash, raw, fees };
        let (gas_limit, prepared_at, signed_at) = (TRANSFER_GAS, at, at);
        let worst_cost = worst.wei();
        // It goes out whatever was spent, and counts from then on. What waits behind it is counted already, and would be for ever, on
        // this day and on each that comes, if what lets it land had to wait until there is room beside it.
        let allowance = None;
        let written = attempt.clone();
        let new = NewTransaction {
            id,
            signer,
            nonce,
            gas_limit,
            prepared_at,
            signed_at,
            attempt: written,
            max_cost: worst_cost,
            daily_budget: allowance,
        };
        store.insert_signed_transaction(&new, &[]).await?;
        let versions = Versions { attempts: vec![attempt], gas_limit, batch_size: 0 };
        let filler = Filler::new(id, (signer, nonce), at, versions, Vec::new(), TxStatus::new(TxPhase::Signed));
        self.context.in_flight.insert(Arc::new(filler));
        events::nonce_gap_filled(id, signer, nonce, hash, "a transfer of nothing to itself");
        Ok(())
    }
}

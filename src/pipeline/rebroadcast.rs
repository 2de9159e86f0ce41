//! Sending a pending transaction's bytes again.

use super::{in_flight::PendingTx, now, observations::persist_observations};
use crate::{chain::Chain, store::Store, telemetry::events};

/// Sends the latest attempt to every endpoint. The answer is only recorded: whether a block includes the transaction
/// decides.
pub(super) async fn rebroadcast(tx: &PendingTx, chain: &Chain, store: &Store) {
    let versions = tx.versions();
    let Some(attempt) = versions.attempts.last() else { return };
    let result = chain.send_to_all(&attempt.raw).await;
    tx.record_send_result(&result, now());
    persist_observations(tx, store).await;
    let outcome = match result {
        Ok(sent) => format!("accepted by {}", sent.endpoint),
        Err(error) => error.to_string(),
    };
    events::transaction_rebroadcast(tx.id, tx.signer, tx.nonce, attempt.hash, &outcome);
}

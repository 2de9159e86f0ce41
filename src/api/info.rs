//! `GetServiceInfo`: what this server is.

use super::{
    access::Access,
    encode::{encode_duration, encode_endpoints, encode_signers, encode_timestamp},
    proto,
};
use crate::pipeline::Registrar;
use std::time::Duration;

/// Signers' balances and endpoints are for those who see callers too.
pub(super) async fn describe(
    registrar: &Registrar,
    access: &Access,
    max_wait: Duration,
) -> proto::GetServiceInfoResponse {
    let queue = registrar.queue_status().await.ok();
    let (signers, endpoints) = if access.sees_callers() {
        (encode_signers(registrar.balances().await), encode_endpoints(registrar.endpoints()))
    } else {
        (Vec::new(), Vec::new())
    };
    proto::GetServiceInfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("REGISTRAR_COMMIT").to_owned(),
        network: registrar.network().name.clone(),
        chain_id: registrar.network().chain_id,
        contract_address: registrar.contract().to_string(),
        signer_addresses: registrar.signers().iter().map(ToString::to_string).collect(),
        confirmations: u32::try_from(registrar.confirmations()).unwrap_or(u32::MAX),
        confirmation_timeout: Some(encode_duration(registrar.confirmation_timeout())),
        max_wait: Some(encode_duration(max_wait)),
        queue_timeout: Some(encode_duration(registrar.queue_timeout())),
        signers,
        endpoints,
        queued: queue.map(|queue| queue.queued),
        oldest_queued_time: queue.and_then(|queue| queue.oldest).map(encode_timestamp),
    }
}

//! Domain values to responses. Text that may come from a node is redacted here too.

use super::proto;
use crate::{
    pipeline::{Header, Network, OnChainRegistration, Registrar},
    registration::{
        Cause, Diagnosis, DocumentWarning, Failure, Finality, Pair, Registration, State, Timestamp, Transaction,
        diagnosis::EndpointSnapshot,
    },
    telemetry::redact,
};
use alloy::primitives::{Address, B256, U256};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct ProtoEncoder {
    network: Network,
    head: Option<Header>,
    confirmations: u64,
    shows_callers: bool,
}

impl ProtoEncoder {
    pub(super) fn new(registrar: &Registrar) -> Self {
        Self::from_parts(registrar.network().clone(), registrar.head(), registrar.confirmations())
    }

    pub(super) fn from_parts(network: Network, head: Option<Header>, confirmations: u64) -> Self {
        Self { network, head, confirmations, shows_callers: false }
    }

    /// For who may see who asked for a registration.
    pub(super) fn showing_callers(self, shows_callers: bool) -> Self {
        Self { shows_callers, ..self }
    }

    pub(super) fn registration(&self, registration: &Registration) -> proto::Registration {
        let times = &registration.times;
        let caller = registration.request.caller.as_ref().filter(|_| self.shows_callers);
        proto::Registration {
            id: registration.id.to_string(),
            document_hash: registration.request.pair.document_hash.to_string(),
            submitted_as: registration.request.submitted_as.clone(),
            case_id: registration.request.pair.case_id.to_string(),
            state: self.state(registration.state).into(),
            finality: registration.finality.map_or(proto::Finality::Unspecified, encode_finality).into(),
            revision: registration.revision,
            blocked_reason: registration.blocked_reason.map_or_else(String::new, |blocked| blocked.code().to_owned()),
            transaction: registration.transaction.as_ref().map(|carrier| self.transaction(carrier, registration.state)),
            failure: registration.failure.as_ref().map(encode_failure),
            diagnosis: registration.diagnosis.as_ref().map(|diagnosis| self.diagnosis(diagnosis)),
            create_time: Some(encode_timestamp(times.created)),
            submit_time: times.submitted.map(encode_timestamp),
            include_time: times.included.map(encode_timestamp),
            confirm_time: times.confirmed.map(encode_timestamp),
            fail_time: times.failed.map(encode_timestamp),
            update_time: Some(encode_timestamp(times.updated)),
            trace_id: registration.request.trace.trace_id.to_string(),
            warning: registration.request.warning().map(|warning| warning.to_string()).unwrap_or_default(),
            caller: caller.map(ToString::to_string).unwrap_or_default(),
            user_id: registration.request.user_id.as_ref().map(|user| user.as_str().to_owned()).unwrap_or_default(),
        }
    }

    /// For callers, a transaction that no node has is still in the queue.
    pub(super) fn state(&self, state: State) -> proto::State {
        match state {
            State::Queued | State::Signed => proto::State::Queued,
            State::Submitted => proto::State::Submitted,
            State::Included => proto::State::Included,
            State::Confirmed => proto::State::Confirmed,
            State::Failed => proto::State::Failed,
        }
    }

    pub(super) fn diagnosis(&self, diagnosis: &Diagnosis) -> proto::Diagnosis {
        proto::Diagnosis {
            cause: encode_cause(diagnosis.cause).into(),
            explanation: redact(&diagnosis.explanation).into_owned(),
            evidence: diagnosis.evidence.iter().map(|(key, value)| (key.clone(), redact(value).into_owned())).collect(),
            time: Some(encode_timestamp(diagnosis.time)),
        }
    }

    pub(super) fn explorer_url(&self, hash: B256) -> String {
        self.network.explorer_url(hash)
    }

    pub(super) fn verify_response(
        &self,
        registrar: &Registrar,
        pair: &Pair,
        warning: Option<DocumentWarning>,
        found: Option<OnChainRegistration>,
    ) -> proto::VerifyDocumentResponse {
        let transaction = found.and_then(|found| found.transaction);
        let block = found.and_then(|found| found.block);
        proto::VerifyDocumentResponse {
            registered: found.is_some(),
            document_hash: pair.document_hash.to_string(),
            case_id: pair.case_id.to_string(),
            registrar: found.map(|found| found.registrar.to_string()).unwrap_or_default(),
            block_number: found.map(|found| found.block_number),
            block_hash: block.map(|(hash, _)| hash.to_string()).unwrap_or_default(),
            block_time: block.map(|(_, at)| encode_timestamp(at)),
            transaction_hash: transaction.map(|hash| hash.to_string()).unwrap_or_default(),
            confirmations: found.map(|found| found.confirmations),
            finality: found.map_or(proto::Finality::Unspecified, |found| encode_finality(found.finality)).into(),
            explorer_url: transaction.map(|hash| self.explorer_url(hash)).unwrap_or_default(),
            contract_address: registrar.contract().to_string(),
            chain_id: self.network.chain_id,
            warning: warning.map(|warning| warning.to_string()).unwrap_or_default(),
        }
    }

    fn transaction(&self, transaction: &Transaction, state: State) -> proto::Transaction {
        let ours = transaction.own.as_ref();
        let cost = ours.and_then(|ours| ours.cost);
        let block = transaction.block;
        // Another replica, a sender or the previous run may have stored a newer block than the head known here.
        let least = if state == State::Confirmed { self.confirmations } else { 1 };
        let head = self.head.map_or(0, |head| head.block.number);
        let depth = |number: u64| (head + 1).saturating_sub(number).max(least);
        let wei = |wei: Option<u128>| wei.map(|wei| wei.to_string()).unwrap_or_default();
        proto::Transaction {
            hash: transaction.hash.to_string(),
            from_address: transaction.from.to_string(),
            nonce: ours.map(|ours| ours.nonce),
            block_number: block.map(|block| block.number),
            block_hash: block.map(|block| block.hash.to_string()).unwrap_or_default(),
            block_time: block.map(|block| encode_timestamp(block.time)),
            gas_used: cost.map(|cost| cost.gas_used),
            effective_gas_price_wei: wei(cost.map(|cost| cost.effective_gas_price)),
            fee_wei: wei(cost.map(|cost| cost.total_fee())),
            l1_fee_wei: wei(cost.and_then(|cost| cost.l1_fee)),
            confirmations: block.map(|block| depth(block.number)),
            batch_size: ours.map_or(0, |ours| ours.batch_size),
            attempts: ours.map_or(0, |ours| ours.attempts),
            explorer_url: self.explorer_url(transaction.hash),
            prepare_time: ours.map(|ours| encode_timestamp(ours.prepared_at)),
            sign_time: ours.map(|ours| encode_timestamp(ours.signed_at)),
        }
    }
}

pub(super) fn encode_signers(signers: Vec<(Address, Option<U256>)>) -> Vec<proto::SignerStatus> {
    let signer = |(address, balance): (Address, Option<U256>)| proto::SignerStatus {
        address: address.to_string(),
        balance_wei: balance.map(|wei| wei.to_string()).unwrap_or_default(),
    };
    signers.into_iter().map(signer).collect()
}

pub(super) fn encode_endpoints(endpoints: Vec<EndpointSnapshot>) -> Vec<proto::EndpointStatus> {
    let endpoint = |endpoint: EndpointSnapshot| proto::EndpointStatus {
        name: endpoint.name,
        state: endpoint.state.to_owned(),
        head_block: endpoint.head,
        error: endpoint.error.map(|error| redact(&error).into_owned()).unwrap_or_default(),
    };
    endpoints.into_iter().map(endpoint).collect()
}

fn encode_failure(failure: &Failure) -> proto::Failure {
    proto::Failure { reason: failure.reason.code().to_owned(), message: redact(&failure.message).into_owned() }
}

pub(super) fn encode_finality(finality: Finality) -> proto::Finality {
    match finality {
        Finality::Unsafe => proto::Finality::Unsafe,
        Finality::Safe => proto::Finality::Safe,
        Finality::Finalized => proto::Finality::Finalized,
    }
}

fn encode_cause(cause: Cause) -> proto::Cause {
    match cause {
        Cause::RpcUnavailable => proto::Cause::RpcUnavailable,
        Cause::ChainStalled => proto::Cause::ChainStalled,
        Cause::RpcDisagreement => proto::Cause::RpcDisagreement,
        Cause::AwaitingConfirmations => proto::Cause::AwaitingConfirmations,
        Cause::Reverted => proto::Cause::Reverted,
        Cause::Reorged => proto::Cause::Reorged,
        Cause::ReplacedExternally => proto::Cause::ReplacedExternally,
        Cause::NonceGap => proto::Cause::NonceGap,
        Cause::BlockedByEarlierNonce => proto::Cause::BlockedByEarlierNonce,
        Cause::FeeTooLow => proto::Cause::FeeTooLow,
        Cause::TipTooLow => proto::Cause::TipTooLow,
        Cause::DroppedFromMempool => proto::Cause::DroppedFromMempool,
        Cause::InsufficientFunds => proto::Cause::InsufficientFunds,
        Cause::SenderLimit => proto::Cause::SenderLimit,
        Cause::TooLarge => proto::Cause::TooLarge,
        Cause::Pending => proto::Cause::Pending,
    }
}

pub(super) fn encode_timestamp(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.micros();
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or_default();
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

pub(super) fn encode_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

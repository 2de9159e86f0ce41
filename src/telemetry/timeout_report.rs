//! The error that reports an expired confirmation timeout, one per registration of the transaction. All of a batch
//! say the same, so beyond the first few, one more error counts and lists the rest.

use crate::registration::{
    CallerName, Diagnosis, Pair, RegistrationId, SpanId, Timestamp, TraceId, TransactionId, UserId,
    diagnosis::EndpointSnapshot, policy::fees::Fees,
};
use alloy::primitives::{Address, B256};
use serde::Serialize;
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

const MAX_INDIVIDUAL_REPORTS: usize = 10;

#[derive(Clone, Debug)]
pub(crate) struct TimedOutTransaction {
    pub(crate) id: TransactionId,
    pub(crate) network: String,
    pub(crate) contract_address: Address,
    /// Of the latest attempt.
    pub(crate) tx_hash: B256,
    /// Empty where the network has no block explorer.
    pub(crate) explorer_url: String,
    pub(crate) from: Address,
    pub(crate) nonce: u64,
    pub(crate) gas_limit: u64,
    pub(crate) attempts: usize,
    /// Of the latest attempt.
    pub(crate) fees: Fees,
    /// Of the newest block, in wei.
    pub(crate) base_fee_per_gas: Option<u128>,
    /// The newest block when a node accepted the transaction; unknown after a restart.
    pub(crate) submitted_block: Option<u64>,
    pub(crate) head_block: Option<u64>,
    /// 1 if included in the newest block, 0 if not included.
    pub(crate) confirmations: u64,
    /// Since submission.
    pub(crate) waited: Duration,
    /// Oldest first.
    pub(crate) history: Vec<(Timestamp, String)>,
    /// `submitted` or `included`.
    pub(crate) state: &'static str,
    pub(crate) diagnosis: Diagnosis,
    pub(crate) endpoints: Vec<EndpointSnapshot>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AffectedRegistration {
    pub(crate) registration_id: RegistrationId,
    pub(crate) pair: Pair,
    pub(crate) trace_id: TraceId,
    /// The span of the registration trace that the report belongs to.
    pub(crate) span_id: SpanId,
    pub(crate) user_id: Option<UserId>,
    pub(crate) caller: Option<CallerName>,
    pub(crate) created: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ReportSubject {
    Registration(AffectedRegistration),
    /// Registrations of a batch that have no report of their own.
    Remainder(Vec<RegistrationId>),
}

impl ReportSubject {
    pub(super) fn registration_count(&self) -> usize {
        match self {
            Self::Registration(_) => 1,
            Self::Remainder(ids) => ids.len(),
        }
    }

    pub(super) fn registration(&self) -> Option<&AffectedRegistration> {
        match self {
            Self::Registration(affected) => Some(affected),
            Self::Remainder(_) => None,
        }
    }

    pub(super) fn remainder(&self) -> Option<&[RegistrationId]> {
        match self {
            Self::Registration(_) => None,
            Self::Remainder(ids) => Some(ids),
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) struct TransactionTimeoutError {
    pub(super) transaction: Arc<TimedOutTransaction>,
    pub(super) subject: ReportSubject,
}

impl TransactionTimeoutError {
    pub(crate) fn reports(transaction: TimedOutTransaction, mut affected: Vec<AffectedRegistration>) -> Vec<Self> {
        let transaction = Arc::new(transaction);
        let rest = affected.split_off(affected.len().min(MAX_INDIVIDUAL_REPORTS));
        let rest: Vec<_> = rest.into_iter().map(|affected| affected.registration_id).collect();
        let rest = (!rest.is_empty()).then_some(ReportSubject::Remainder(rest));
        let subjects = affected.into_iter().map(ReportSubject::Registration).chain(rest);
        subjects.map(|subject| Self { transaction: transaction.clone(), subject }).collect()
    }
}

impl fmt::Display for TransactionTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.transaction.tx_hash.to_string();
        write!(f, "Transaction {} not confirmed after {}", short_hash(&hash), format_seconds(self.transaction.waited))?;
        format_with_cause(f, &self.transaction.diagnosis)
    }
}

/// The full hash is in a field of its own.
pub(super) fn short_hash(hash: &str) -> String {
    format!("{}…{}", &hash[..6], &hash[hash.len() - 4..])
}

pub(super) fn format_seconds(waited: Duration) -> String {
    let seconds = waited.as_secs();
    let unit = if seconds == 1 { "second" } else { "seconds" };
    format!("{seconds} {unit}")
}

/// The title of Sentry's issue: it says at first sight what is wrong.
pub(super) fn format_with_cause(f: &mut fmt::Formatter<'_>, diagnosis: &Diagnosis) -> fmt::Result {
    write!(f, ": {}: {}", diagnosis.cause.code(), diagnosis.explanation)
}

fn diagnosis_context(diagnosis: &Diagnosis) -> BTreeMap<&str, Cow<'_, str>> {
    let evidence = diagnosis.evidence.iter().map(|(key, value)| (key.as_str(), value.into()));
    let cause = diagnosis.cause.code();
    let summary = [
        ("cause", cause.into()),
        ("explanation", diagnosis.explanation.as_str().into()),
        // The section of the cause, in the repository.
        ("runbook", format!("deploy/RUNBOOK.md#{cause}").into()),
    ];
    evidence.chain(summary).collect()
}

pub(super) fn rpc_context(endpoints: &[EndpointSnapshot]) -> BTreeMap<&str, EndpointContext<'_>> {
    endpoints.iter().map(|endpoint| (endpoint.name.as_str(), endpoint.into())).collect()
}

/// What the log line and the Sentry event say. Serialized, each field is a Sentry context.
#[derive(Serialize)]
pub(super) struct DiagnosedReport<'a, C> {
    pub(super) blockchain: C,
    diagnosis: BTreeMap<&'a str, Cow<'a, str>>,
    rpc: BTreeMap<&'a str, EndpointContext<'a>>,
}

impl<'a, C> DiagnosedReport<'a, C> {
    pub(super) fn new(blockchain: C, diagnosis: &'a Diagnosis, endpoints: &'a [EndpointSnapshot]) -> Self {
        Self { blockchain, diagnosis: diagnosis_context(diagnosis), rpc: rpc_context(endpoints) }
    }
}

pub(super) type TimeoutReport<'a> = DiagnosedReport<'a, BlockchainContext<'a>>;

/// Fees are strings, for JSON readers lose the precision of integers beyond 2^53.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockchainContext<'a> {
    pub(super) network: &'a str,
    pub(super) contract_address: String,
    pub(super) tx_hash: String,
    pub(super) gas_limit: u64,
    pub(super) document_hash: Option<String>,
    pub(super) case_id: Option<&'a str>,
    pub(super) registration_id: Option<String>,
    pub(super) registrations: Option<usize>,
    pub(super) from: String,
    pub(super) nonce: u64,
    pub(super) attempts: usize,
    pub(super) max_fee_per_gas: String,
    pub(super) max_priority_fee_per_gas: String,
    pub(super) base_fee_per_gas: Option<String>,
    pub(super) submitted_block: Option<u64>,
    pub(super) head_block: Option<u64>,
    pub(super) confirmations: u64,
    pub(super) explorer_url: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointContext<'a> {
    state: &'static str,
    block_number: Option<u64>,
    latency_ms: Option<u64>,
    error: Option<&'a str>,
}

impl<'a> From<&'a EndpointSnapshot> for EndpointContext<'a> {
    fn from(endpoint: &'a EndpointSnapshot) -> Self {
        Self {
            state: endpoint.state,
            block_number: endpoint.head,
            latency_ms: endpoint.latency.map(|latency| latency.as_millis() as u64),
            error: endpoint.error.as_deref(),
        }
    }
}

impl fmt::Display for EndpointContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state)?;
        self.block_number.map_or(Ok(()), |head| write!(f, " head {head}"))?;
        self.latency_ms.map_or(Ok(()), |latency| write!(f, " latency {latency} ms"))?;
        self.error.map_or(Ok(()), |error| write!(f, " ({error})"))
    }
}

impl<'a> From<&'a TransactionTimeoutError> for TimeoutReport<'a> {
    fn from(error: &'a TransactionTimeoutError) -> Self {
        let (transaction, affected) = (&*error.transaction, error.subject.registration());
        let blockchain = BlockchainContext {
            network: &transaction.network,
            contract_address: transaction.contract_address.to_string(),
            tx_hash: transaction.tx_hash.to_string(),
            gas_limit: transaction.gas_limit,
            document_hash: affected.map(|affected| affected.pair.document_hash.to_string()),
            case_id: affected.map(|affected| affected.pair.case_id.as_str()),
            registration_id: affected.map(|affected| affected.registration_id.to_string()),
            registrations: error.subject.remainder().map(<[_]>::len),
            from: transaction.from.to_string(),
            nonce: transaction.nonce,
            attempts: transaction.attempts,
            max_fee_per_gas: transaction.fees.max_fee_per_gas.to_string(),
            max_priority_fee_per_gas: transaction.fees.max_priority_fee_per_gas.to_string(),
            base_fee_per_gas: transaction.base_fee_per_gas.map(|fee| fee.to_string()),
            submitted_block: transaction.submitted_block,
            head_block: transaction.head_block,
            confirmations: transaction.confirmations,
            explorer_url: Some(transaction.explorer_url.as_str()).filter(|url| !url.is_empty()),
        };
        Self::new(blockchain, &transaction.diagnosis, &transaction.endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{Cause, DocumentHash};
    use serde_json::json;

    fn timed_out(waited: Duration) -> TimedOutTransaction {
        let diagnosis = Diagnosis {
            cause: Cause::Pending,
            explanation: "It is pending.".into(),
            evidence: BTreeMap::from([("nonce".into(), "7".into()), ("state".into(), "submitted".into())]),
            time: Timestamp::from_seconds(1_000),
        };
        let endpoint = EndpointSnapshot {
            name: "base.example".into(),
            state: "healthy",
            head: Some(120),
            lag: None,
            latency: Some(Duration::from_millis(12)),
            error: None,
        };
        TimedOutTransaction {
            id: TransactionId::from_bytes([6; 16]),
            network: "base-sepolia".into(),
            contract_address: Address::repeat_byte(3),
            tx_hash: B256::repeat_byte(0x7a),
            explorer_url: String::new(),
            from: Address::repeat_byte(4),
            nonce: 7,
            gas_limit: 52_000,
            attempts: 1,
            fees: Fees { max_fee_per_gas: 8, max_priority_fee_per_gas: 1 },
            base_fee_per_gas: Some(1),
            submitted_block: Some(118),
            head_block: Some(120),
            confirmations: 0,
            waited,
            history: Vec::new(),
            state: "submitted",
            diagnosis,
            endpoints: vec![endpoint],
        }
    }

    fn affected(number: u16) -> AffectedRegistration {
        let mut id = [0; 16];
        id[14..].copy_from_slice(&number.to_be_bytes());
        AffectedRegistration {
            registration_id: RegistrationId::from_bytes(id),
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() },
            trace_id: TraceId::from_bytes([2; 16]).unwrap(),
            span_id: SpanId::from_bytes([3; 8]).unwrap(),
            user_id: None,
            caller: None,
            created: Timestamp::from_seconds(900),
        }
    }

    #[test]
    fn the_message_has_the_short_hash_the_waiting_time_and_the_cause() {
        for (waited, expected) in [
            (30_900, "Transaction 0x7a7a…7a7a not confirmed after 30 seconds: pending: It is pending."),
            (1_000, "Transaction 0x7a7a…7a7a not confirmed after 1 second: pending: It is pending."),
        ] {
            let reports = TransactionTimeoutError::reports(timed_out(Duration::from_millis(waited)), vec![affected(0)]);
            assert_eq!(reports[0].to_string(), expected);
        }
    }

    #[test]
    fn a_stuck_batch_of_600_gives_eleven_reports_and_names_each_registration_once() {
        for (members, expected) in [(1, 1), (10, 10), (11, 11), (600, 11)] {
            let all: Vec<_> = (0..members).map(affected).collect();
            let reports = TransactionTimeoutError::reports(timed_out(Duration::ZERO), all.clone());
            assert_eq!(reports.len(), expected, "{members} registrations");
            let named: Vec<_> = reports
                .iter()
                .flat_map(|report| match &report.subject {
                    ReportSubject::Registration(affected) => vec![affected.registration_id],
                    ReportSubject::Remainder(ids) => ids.clone(),
                })
                .collect();
            assert_eq!(named, all.iter().map(|affected| affected.registration_id).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_sentry_contexts_have_the_documented_keys_and_types() {
        let contexts = |members| {
            let reports =
                TransactionTimeoutError::reports(timed_out(Duration::ZERO), (0..members).map(affected).collect());
            serde_json::to_value(TimeoutReport::from(reports.last().unwrap())).unwrap()
        };
        let mut expected = json!({
            "blockchain": {
                "network": "base-sepolia",
                "contractAddress": Address::repeat_byte(3).to_string(),
                "txHash": B256::repeat_byte(0x7a).to_string(),
                "gasLimit": 52_000,
                "documentHash": affected(0).pair.document_hash.to_string(),
                "caseId": "case-1",
                "registrationId": affected(0).registration_id.to_string(),
                "registrations": null,
                "from": Address::repeat_byte(4).to_string(),
                "nonce": 7,
                "attempts": 1,
                "maxFeePerGas": "8",
                "maxPriorityFeePerGas": "1",
                "baseFeePerGas": "1",
                "submittedBlock": 118,
                "headBlock": 120,
                "confirmations": 0,
                "explorerUrl": null,
            },
            "diagnosis": {
                "cause": "pending",
                "explanation": "It is pending.",
                "runbook": "deploy/RUNBOOK.md#pending",
                "nonce": "7",
                "state": "submitted",
            },
            "rpc": { "base.example": { "state": "healthy", "blockNumber": 120, "latencyMs": 12, "error": null } },
        });
        assert_eq!(contexts(1), expected);

        for key in ["documentHash", "caseId", "registrationId"] {
            expected["blockchain"][key] = json!(null);
        }
        expected["blockchain"]["registrations"] = json!(3);
        assert_eq!(contexts(13), expected);
    }
}

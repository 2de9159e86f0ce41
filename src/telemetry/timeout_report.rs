//! The report of a transaction whose confirmation clock ran out: an error that carries all that is known of it, one for each
//! of its registrations. A batch has many, which all say the same: beyond the first few, one more counts and names them.

use crate::registration::{
    Diagnosis, Pair, RegistrationId, SpanId, Timestamp, TraceId, TransactionId, UserId, diagnosis::EndpointSnapshot,
    policy::fees::Fees,
};
use alloy::primitives::{Address, B256};
use std::{fmt, sync::Arc, time::Duration};

/// So many registrations of a transaction are reported one by one.
const MAX_INDIVIDUAL_REPORTS: usize = 10;

/// A transaction that was not confirmed in time, and why.
#[derive(Clone, Debug)]
pub struct TimedOutTransaction {
    /// Its id in the store.
    pub id: TransactionId,
    /// The network's name, as `base-sepolia`.
    pub network: String,
    /// The DocumentRegistry.
    pub contract_address: Address,
    /// The transaction's latest hash.
    pub tx_hash: B256,
    /// Its page on the block explorer; empty where there is none.
    pub explorer_url: String,
    /// Who signed it.
    pub from: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// Its gas limit.
    pub gas_limit: u64,
    /// How often it was signed.
    pub attempts: usize,
    /// What its latest version offers, in wei per gas.
    pub fees: Fees,
    /// What the newest block asked, in wei per gas.
    pub base_fee_per_gas: Option<u128>,
    /// The newest block when a node took it; not known after a restart.
    pub submitted_block: Option<u64>,
    /// The newest block.
    pub head_block: Option<u64>,
    /// How deep its block is; the block itself counts as 1, and 0 is no block.
    pub confirmations: u64,
    /// Since it was sent.
    pub waited: Duration,
    /// What happened to it, oldest first.
    pub history: Vec<(Timestamp, String)>,
    /// Where it is: `submitted` or `included`.
    pub state: &'static str,
    /// Why.
    pub diagnosis: Diagnosis,
    /// Every endpoint as last seen.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// A registration that a report is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AffectedRegistration {
    /// Its id.
    pub registration_id: RegistrationId,
    /// What is registered.
    pub pair: Pair,
    /// The journey's trace.
    pub trace_id: TraceId,
    /// The span of its journey that the report is about.
    pub span_id: SpanId,
    /// The caller's opaque id of its end user.
    pub user_id: Option<UserId>,
    /// When it was accepted.
    pub created: Timestamp,
}

/// Whom a report is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReportSubject {
    /// One registration.
    Registration(AffectedRegistration),
    /// All those of a batch that no report of their own is about.
    Remainder(Vec<RegistrationId>),
}

impl ReportSubject {
    /// How many registrations it is about.
    pub fn registration_count(&self) -> usize {
        match self {
            Self::Registration(_) => 1,
            Self::Remainder(ids) => ids.len(),
        }
    }

    /// The one that it is about.
    pub fn registration(&self) -> Option<&AffectedRegistration> {
        match self {
            Self::Registration(one) => Some(one),
            Self::Remainder(_) => None,
        }
    }

    /// Those that are only counted.
    pub fn remainder(&self) -> Option<&[RegistrationId]> {
        match self {
            Self::Registration(_) => None,
            Self::Remainder(ids) => Some(ids),
        }
    }
}

/// One report.
#[derive(Clone, Debug, thiserror::Error)]
pub struct TransactionTimeoutError {
    /// The transaction.
    pub transaction: Arc<TimedOutTransaction>,
    /// Whom it is about.
    pub subject: ReportSubject,
}

impl TransactionTimeoutError {
    /// The reports about a transaction that carries these.
    pub fn reports(transaction: TimedOutTransaction, mut late: Vec<AffectedRegistration>) -> Vec<Self> {
        let transaction = Arc::new(transaction);
        let rest = late.split_off(late.len().min(MAX_INDIVIDUAL_REPORTS));
        let rest: Vec<_> = rest.into_iter().map(|late| late.registration_id).collect();
        let rest = (!rest.is_empty()).then_some(ReportSubject::Remainder(rest));
        let abouts = late.into_iter().map(ReportSubject::Registration).chain(rest);
        abouts.map(|about| Self { transaction: transaction.clone(), subject: about }).collect()
    }
}

/// As people know it: what it is, and for how long it has been late. The hash is shortened; the whole is in its place.
impl fmt::Display for TransactionTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.transaction.tx_hash.to_string();
        let (first, last) = (&hash[..6], &hash[hash.len() - 4..]);
        let seconds = self.transaction.waited.as_secs();
        let unit = if seconds == 1 { "second" } else { "seconds" };
        write!(f, "Transaction {first}…{last} not confirmed after {seconds} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{Cause, DocumentHash};
    use std::collections::BTreeMap;

    fn timed_out(waited: Duration) -> TimedOutTransaction {
        let diagnosis = Diagnosis {
            cause: Cause::Pending,
            explanation: "It waits.".into(),
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

    fn late(number: u16) -> AffectedRegistration {
        let mut id = [0; 16];
        id[14..].copy_from_slice(&number.to_be_bytes());
        AffectedRegistration {
            registration_id: RegistrationId::from_bytes(id),
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() },
            trace_id: TraceId::from_bytes([2; 16]).unwrap(),
            span_id: SpanId::from_bytes([3; 8]).unwrap(),
            user_id: None,
            created: Timestamp::from_seconds(900),
        }
    }

    #[test]
    fn a_report_reads_as_people_search_for_it() {
        for (waited, expected) in [
            (30_900, "Transaction 0x7a7a…7a7a not confirmed after 30 seconds"),
            (1_000, "Transaction 0x7a7a…7a7a not confirmed after 1 second"),
        ] {
            let reports = TransactionTimeoutError::reports(timed_out(Duration::from_millis(waited)), vec![late(0)]);
            assert_eq!(reports[0].to_string(), expected);
        }
    }

    #[test]
    fn a_stuck_batch_of_600_gives_eleven_reports_and_names_everybody_once() {
        for (members, expected) in [(1, 1), (10, 10), (11, 11), (600, 11)] {
            let all: Vec<_> = (0..members).map(late).collect();
            let reports = TransactionTimeoutError::reports(timed_out(Duration::ZERO), all.clone());
            assert_eq!(reports.len(), expected, "{members} registrations");
            let named: Vec<_> = reports
                .iter()
                .flat_map(|report| match &report.subject {
                    ReportSubject::Registration(late) => vec![late.registration_id],
                    ReportSubject::Remainder(ids) => ids.clone(),
                })
                .collect();
            assert_eq!(named, all.iter().map(|late| late.registration_id).collect::<Vec<_>>());
        }
    }
}

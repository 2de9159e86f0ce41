//! The error that reports registrations whose queue timeout passed. One episode may block all registrations, so that
//! only its first ones have an error of their own, and one more counts and lists the rest.

use super::timeout_report::{AffectedRegistration, DiagnosedReport, format_seconds, format_with_cause, short_hash};
use crate::registration::{
    BlockedReason, Diagnosis, RegistrationId, Timestamp, TransactionId, diagnosis::EndpointSnapshot,
};
use alloy::primitives::{Address, B256};
use serde::Serialize;
use std::{fmt, sync::Arc, time::Duration};

const MAX_INDIVIDUAL_REPORTS: u64 = 10;
/// Sentry accepts an event of 1 MB, and an id takes about 40 bytes.
const MAX_LISTED: usize = 3_000;

/// What all registrations of a report have in common.
#[derive(Clone, Debug)]
pub(crate) struct QueueDelay {
    pub(crate) network: String,
    pub(crate) contract_address: Address,
    pub(crate) blocked_reason: Option<BlockedReason>,
    /// The signed transaction that no node has accepted, if there is one.
    pub(crate) unsent: Option<UnsentTransaction>,
    pub(crate) head_block: Option<u64>,
    /// Of the newest block, in wei.
    pub(crate) base_fee_per_gas: Option<u128>,
    pub(crate) at: Timestamp,
    pub(crate) diagnosis: Diagnosis,
    pub(crate) endpoints: Vec<EndpointSnapshot>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct UnsentTransaction {
    pub(crate) id: TransactionId,
    /// Of the latest attempt.
    pub(crate) hash: B256,
    pub(crate) from: Address,
    pub(crate) nonce: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct DelayedRegistration {
    pub(crate) affected: AffectedRegistration,
    /// When it was accepted, or queued again.
    pub(crate) queued: Timestamp,
}

/// The registrations of one round that are delayed for the same reason.
#[derive(Clone, Debug)]
pub(crate) struct DelayedBatch {
    delay: Arc<QueueDelay>,
    individual: Vec<DelayedRegistration>,
    /// At most [`MAX_LISTED`].
    rest: Vec<RegistrationId>,
    rest_count: usize,
    rest_queued: Option<Timestamp>,
    /// The episode had its report of the rest before.
    rest_is_reported: bool,
}

impl DelayedBatch {
    pub(crate) fn new(delay: QueueDelay) -> Self {
        let (individual, rest) = (Vec::new(), Vec::new());
        Self { delay: Arc::new(delay), individual, rest, rest_count: 0, rest_queued: None, rest_is_reported: false }
    }

    pub(crate) fn delay(&self) -> &QueueDelay {
        &self.delay
    }

    /// The number `position` of its episode, counted from 0.
    pub(crate) fn add(&mut self, position: u64, delayed: DelayedRegistration) {
        if position < MAX_INDIVIDUAL_REPORTS {
            self.individual.push(delayed);
            return;
        }
        if self.rest_count == 0 {
            self.rest_is_reported = position > MAX_INDIVIDUAL_REPORTS;
            self.rest_queued = Some(delayed.queued);
        }
        self.rest_count += 1;
        if self.rest.len() < MAX_LISTED {
            self.rest.push(delayed.affected.registration_id);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.individual.len() + self.rest_count
    }

    /// What has no error: the episode has reported the rest before.
    pub(super) fn unreported(&self) -> usize {
        if self.rest_is_reported { self.rest_count } else { 0 }
    }

    pub(super) fn errors(&self) -> Vec<RegistrationDelayedError> {
        let waited = |since: Timestamp| self.delay.at.since(since);
        let error =
            |subject, queued| RegistrationDelayedError { delay: self.delay.clone(), subject, waited: waited(queued) };
        let one = |delayed: &DelayedRegistration| {
            error(DelaySubject::Registration(Box::new(delayed.affected.clone())), delayed.queued)
        };
        let rest = self.rest_queued.filter(|_| !self.rest_is_reported);
        let rest =
            rest.map(|queued| error(DelaySubject::Rest { listed: self.rest.clone(), count: self.rest_count }, queued));
        self.individual.iter().map(one).chain(rest).collect()
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DelaySubject {
    Registration(Box<AffectedRegistration>),
    /// Registrations of the episode that have no report of their own.
    Rest {
        listed: Vec<RegistrationId>,
        count: usize,
    },
}

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) struct RegistrationDelayedError {
    pub(super) delay: Arc<QueueDelay>,
    pub(super) subject: DelaySubject,
    /// Since it was queued; of several, the longest.
    waited: Duration,
}

impl RegistrationDelayedError {
    pub(super) fn registration(&self) -> Option<&AffectedRegistration> {
        match &self.subject {
            DelaySubject::Registration(affected) => Some(affected),
            DelaySubject::Rest { .. } => None,
        }
    }

    pub(super) fn rest(&self) -> Option<(&[RegistrationId], usize)> {
        match &self.subject {
            DelaySubject::Registration(_) => None,
            DelaySubject::Rest { listed, count } => Some((listed, *count)),
        }
    }
}

impl fmt::Display for RegistrationDelayedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            DelaySubject::Registration(affected) => {
                write!(f, "Document {}", short_hash(&affected.pair.document_hash.to_string()))?;
            }
            DelaySubject::Rest { count: 1, .. } => f.write_str("1 document")?,
            DelaySubject::Rest { count, .. } => write!(f, "{count} documents")?,
        }
        write!(f, " not sent after {}", format_seconds(self.waited))?;
        format_with_cause(f, &self.delay.diagnosis)
    }
}

pub(super) type DelayReport<'a> = DiagnosedReport<'a, DelayContext<'a>>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DelayContext<'a> {
    pub(super) network: &'a str,
    pub(super) contract_address: String,
    pub(super) blocked_reason: Option<&'static str>,
    pub(super) document_hash: Option<String>,
    pub(super) case_id: Option<&'a str>,
    pub(super) registration_id: Option<String>,
    pub(super) registrations: Option<usize>,
    pub(super) queued_seconds: u64,
    pub(super) tx_hash: Option<String>,
    pub(super) from: Option<String>,
    pub(super) nonce: Option<u64>,
    pub(super) head_block: Option<u64>,
    /// A string, for JSON readers lose the precision of integers beyond 2^53.
    pub(super) base_fee_per_gas: Option<String>,
}

impl<'a> From<&'a RegistrationDelayedError> for DelayReport<'a> {
    fn from(error: &'a RegistrationDelayedError) -> Self {
        let (delay, affected, unsent) = (&*error.delay, error.registration(), error.delay.unsent.as_ref());
        let blockchain = DelayContext {
            network: &delay.network,
            contract_address: delay.contract_address.to_string(),
            blocked_reason: delay.blocked_reason.map(BlockedReason::code),
            document_hash: affected.map(|affected| affected.pair.document_hash.to_string()),
            case_id: affected.map(|affected| affected.pair.case_id.as_str()),
            registration_id: affected.map(|affected| affected.registration_id.to_string()),
            registrations: error.rest().map(|(_, count)| count),
            queued_seconds: error.waited.as_secs(),
            tx_hash: unsent.map(|unsent| unsent.hash.to_string()),
            from: unsent.map(|unsent| unsent.from.to_string()),
            nonce: unsent.map(|unsent| unsent.nonce),
            head_block: delay.head_block,
            base_fee_per_gas: delay.base_fee_per_gas.map(|fee| fee.to_string()),
        };
        Self::new(blockchain, &delay.diagnosis, &delay.endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{Cause, DocumentHash, Pair, SpanId, TraceId};
    use std::collections::BTreeMap;

    fn batch() -> DelayedBatch {
        DelayedBatch::new(QueueDelay {
            network: "base-sepolia".into(),
            contract_address: Address::repeat_byte(3),
            blocked_reason: Some(BlockedReason::InsufficientFunds),
            unsent: None,
            head_block: Some(120),
            base_fee_per_gas: Some(1),
            at: Timestamp::from_seconds(1_000),
            diagnosis: Diagnosis {
                cause: Cause::InsufficientFunds,
                explanation: "The signer has 0 ETH.".into(),
                evidence: BTreeMap::new(),
                time: Timestamp::from_seconds(1_000),
            },
            endpoints: Vec::new(),
        })
    }

    fn delayed(number: u64) -> DelayedRegistration {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        let affected = AffectedRegistration {
            registration_id: RegistrationId::from_bytes(id),
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() },
            trace_id: TraceId::from_bytes([2; 16]).unwrap(),
            span_id: SpanId::from_bytes([3; 8]).unwrap(),
            user_id: None,
            caller: None,
            created: Timestamp::from_seconds(900),
        };
        DelayedRegistration { affected, queued: Timestamp::from_seconds(939) }
    }

    /// The errors of registrations number `from` to `to` of an episode, and how many have none.
    fn reported(from: u64, to: u64) -> (usize, Option<usize>, usize) {
        let mut batch = batch();
        (from..to).for_each(|position| batch.add(position, delayed(position)));
        let errors = batch.errors();
        assert_eq!(batch.count() as u64, to - from);
        let individual = errors.iter().filter(|error| error.registration().is_some()).count();
        (individual, errors.iter().find_map(|error| Some(error.rest()?.1)), batch.unreported())
    }

    #[test]
    fn the_first_ten_of_an_episode_have_an_error_each_and_the_rest_one() {
        for (from, to, expected) in [
            (0, 1, (1, None, 0)),
            (0, 10, (10, None, 0)),
            (0, 11, (10, Some(1), 0)),
            (0, 10_000, (10, Some(9_990), 0)),
            (4, 12, (6, Some(2), 0)),
            (10, 12, (0, Some(2), 0)),
            (11, 500, (0, None, 489)),
        ] {
            assert_eq!(reported(from, to), expected, "{from} to {to}");
        }
    }

    #[test]
    fn the_message_names_the_document_the_time_and_the_cause() {
        let mut batch = batch();
        (0..5_011).for_each(|position| batch.add(position, delayed(position)));
        let errors = batch.errors();
        let cause = "insufficient_funds: The signer has 0 ETH.";
        assert_eq!(errors[0].to_string(), format!("Document 0x0101…0101 not sent after 61 seconds: {cause}"));
        assert_eq!(errors[10].to_string(), format!("5001 documents not sent after 61 seconds: {cause}"));
        assert_eq!(errors[10].rest().unwrap().0.len(), MAX_LISTED);
    }
}

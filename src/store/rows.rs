//! Rows to domain values.

use super::{
    StoreError,
    query::{FromColumn, Row},
};
use crate::registration::{
    Block, CallerName, Cost, Diagnosis, DocumentHash, Failure, NewRegistration, OwnTransaction, Pair, Registration,
    RegistrationId, SpanId, StateTimes, Timestamp, TraceContext, TraceId, Transaction, TransactionId, UserId,
};
use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, str::FromStr};

/// [`read_registration`] reads them by position.
macro_rules! registration_columns {
    () => {
        "r.id, r.document_hash, r.case_id, r.submitted_as, r.user_id, \
    r.caller, r.state, r.revision, r.blocked, r.failure_reason, r.failure_message, r.trace_id, r.parent_span_id, r.sampled, \
    r.baggage, r.tracestate, r.created_at, r.failed_at, r.updated_at, r.queued_at, r.delayed_at, r.delay_diagnosis, \
    t.hash, t.signer, t.nonce, t.batch_size, \
    t.attempts, t.prepared_at, t.signed_at, t.sent_at, t.included_at, t.confirmed_at, t.timed_out_at, \
    t.block_number, t.block_hash, t.block_time, t.gas_used, t.effective_gas_price, t.l1_fee, t.diagnosis, t.finality"
    };
}

macro_rules! registration_tables {
    () => {
        " FROM registrations r LEFT JOIN transactions t ON t.id = r.transaction_id"
    };
}

/// Registrations with their transactions; [`read_registration`] reads a row.
pub(super) const SELECT_REGISTRATION: &str = concat!("SELECT ", registration_columns!(), registration_tables!());

/// Registrations with the numbers of their changes and the latest history; [`read_change`] reads a row.
pub(super) const SELECT_CHANGE: &str = concat!(
    "SELECT r.change_number, (SELECT h.id FROM feed_histories h ORDER BY h.number DESC LIMIT 1), ",
    registration_columns!(),
    registration_tables!()
);

/// [`read_queued`] reads a row, except for its last column.
pub(super) const SELECT_QUEUED: &str = "SELECT id, document_hash, case_id, user_id, caller, trace_id, parent_span_id, sampled, \
     baggage, tracestate, created_at, reverts, queued_at, delayed_at, transaction_id FROM registrations";

/// What a sender needs to know of a registration.
#[derive(Clone, Debug)]
pub struct QueuedRegistration {
    pub id: RegistrationId,
    pub pair: Pair,
    /// The caller's opaque id of its end user.
    pub user_id: Option<UserId>,
    pub caller: Option<CallerName>,
    /// The caller's trace, below which the registration's spans are reported.
    pub trace: TraceContext,
    pub created_at: Timestamp,
    /// How many transactions that contained it have reverted.
    pub reverts: u32,
    /// When it was accepted, or queued again.
    pub queued_at: Timestamp,
    /// When its queue timeout passed, if it did.
    pub delayed_at: Option<Timestamp>,
}

/// Reads the columns of [`SELECT_QUEUED`]; `transaction_id` is left to be read.
pub(super) fn read_queued(c: &mut RowReader<'_>) -> Result<QueuedRegistration, StoreError> {
    let id = c.registration_id()?;
    let pair = Pair { document_hash: c.document()?, case_id: c.code()? };
    let (user_id, caller, trace) = (c.user_id()?, c.caller()?, c.trace()?);
    let created_at = Timestamp::from_micros(c.get()?);
    Ok(QueuedRegistration {
        id,
        pair,
        user_id,
        caller,
        trace,
        created_at,
        reverts: u32::try_from(c.number()?).unwrap_or(u32::MAX),
        queued_at: c.time()?.unwrap_or(created_at),
        delayed_at: c.time()?,
    })
}

/// Reads the columns of a row from left to right.
pub(super) struct RowReader<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> RowReader<'r> {
    pub(super) fn new(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn get<T: FromColumn<'r>>(&mut self) -> Result<T, StoreError> {
        let index = self.next;
        self.next += 1;
        self.row.get(index)
    }

    pub(super) fn bytes<T: for<'a> TryFrom<&'a [u8]>>(&mut self) -> Result<T, StoreError> {
        fixed_bytes(self.get()?)
    }

    pub(super) fn optional_bytes<T: for<'a> TryFrom<&'a [u8]>>(&mut self) -> Result<Option<T>, StoreError> {
        self.get::<Option<&[u8]>>()?.map(fixed_bytes).transpose()
    }

    pub(super) fn unsigned(&mut self) -> Result<Option<u64>, StoreError> {
        Ok(self.get::<Option<i64>>()?.map(i64::cast_unsigned))
    }

    /// `NULL` is read as 0.
    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        Ok(self.unsigned()?.unwrap_or_default())
    }

    pub(super) fn time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp::from_micros))
    }

    pub(super) fn code<T: FromStr<Err: ToString>>(&mut self) -> Result<T, StoreError> {
        self.get::<&str>()?.parse().map_err(|error: T::Err| StoreError::corrupt(error.to_string()))
    }

    /// `block_number, block_hash, block_time`.
    pub(super) fn block(&mut self) -> Result<Option<Block>, StoreError> {
        Ok(match (self.unsigned()?, self.optional_bytes()?, self.time()?) {
            (Some(number), Some(hash), Some(time)) => Some(Block { number, hash, time }),
            _ => None,
        })
    }

    pub(super) fn wei(&mut self) -> Result<Option<u128>, StoreError> {
        self.get::<Option<&str>>()?.map(|text| text.parse().map_err(StoreError::corrupt)).transpose()
    }

    pub(super) fn document(&mut self) -> Result<DocumentHash, StoreError> {
        DocumentHash::new(self.bytes()?).map_err(StoreError::corrupt)
    }

    pub(super) fn user_id(&mut self) -> Result<Option<UserId>, StoreError> {
        let text = self.get::<Option<&str>>()?.unwrap_or_default();
        UserId::parse_optional(text).map_err(StoreError::corrupt)
    }

    pub(super) fn caller(&mut self) -> Result<Option<CallerName>, StoreError> {
        self.get::<Option<&str>>()?.map(|name| name.parse().map_err(StoreError::corrupt)).transpose()
    }

    pub(super) fn transaction_id(&mut self) -> Result<TransactionId, StoreError> {
        self.bytes().map(TransactionId::from_bytes)
    }

    pub(super) fn registration_id(&mut self) -> Result<RegistrationId, StoreError> {
        self.bytes().map(RegistrationId::from_bytes)
    }

    /// `trace_id, parent_span_id, sampled, baggage, tracestate`.
    pub(super) fn trace(&mut self) -> Result<TraceContext, StoreError> {
        Ok(TraceContext {
            trace_id: TraceId::from_bytes(self.bytes()?).ok_or_else(|| StoreError::corrupt("a zero trace id"))?,
            parent: self.optional_bytes()?.and_then(SpanId::from_bytes),
            sampled: self.get::<Option<i64>>()?.map(|flag| flag != 0),
            baggage: self.get()?,
            tracestate: self.get()?,
        })
    }
}

/// Reads a row of [`SELECT_CHANGE`]: the change's number, the latest history, and the registration.
pub(super) fn read_change(row: &Row) -> Result<(i64, [u8; 8], Registration), StoreError> {
    let mut c = RowReader::new(row);
    Ok((c.get()?, c.bytes()?, read_columns(&mut c)?))
}

/// Reads a row of [`SELECT_REGISTRATION`].
pub(super) fn read_registration(row: &Row) -> Result<Registration, StoreError> {
    read_columns(&mut RowReader::new(row))
}

fn read_columns(c: &mut RowReader<'_>) -> Result<Registration, StoreError> {
    let id = c.registration_id()?;
    let document_hash = c.document()?;
    let case_id = c.code()?;
    let submitted_as = c.get()?;
    let user_id = c.user_id()?;
    let caller = c.caller()?;
    let state = c.code()?;
    let revision = c.get()?;
    let blocked = c.get::<&str>()?;
    let blocked = (!blocked.is_empty()).then(|| blocked.parse()).transpose().map_err(StoreError::corrupt)?;
    let failure = read_failure(c)?;
    let trace = c.trace()?;
    let created = Timestamp::from_micros(c.get()?);
    let failed = c.time()?;
    let updated = Timestamp::from_micros(c.get()?);
    let queued = c.time()?.unwrap_or(created);
    let delayed = c.time()?;
    let mut times = StateTimes {
        created,
        queued,
        delayed,
        submitted: None,
        included: None,
        confirmed: None,
        failed,
        timed_out: None,
        updated,
    };
    let delay_diagnosis = c.get::<Option<&str>>()?;
    let transaction = read_transaction(c, &mut times)?;
    let diagnosis = c.get::<Option<&str>>()?.or(delay_diagnosis);
    let diagnosis = diagnosis.map(decode_diagnosis).transpose()?;
    let finality = c.get::<Option<&str>>()?.map(|code| code.parse()).transpose().map_err(StoreError::corrupt)?;
    let finality = finality.filter(|_| transaction.as_ref().is_some_and(|transaction| transaction.block.is_some()));
    Ok(Registration {
        id,
        request: NewRegistration {
            pair: Pair { document_hash, case_id },
            submitted_as,
            user_id,
            caller,
            trace: trace.into(),
        },
        state,
        finality,
        revision,
        blocked_reason: blocked,
        transaction,
        failure,
        diagnosis,
        times,
    })
}

fn read_failure(c: &mut RowReader<'_>) -> Result<Option<Failure>, StoreError> {
    let reason = c.get::<Option<&str>>()?;
    let message = c.get::<Option<String>>()?.unwrap_or_default();
    reason.map(|code| Ok(Failure { reason: code.parse().map_err(StoreError::corrupt)?, message })).transpose()
}

fn read_transaction(c: &mut RowReader<'_>, times: &mut StateTimes) -> Result<Option<Transaction>, StoreError> {
    let hash = c.optional_bytes::<B256>()?;
    let from = c.optional_bytes::<Address>()?;
    let nonce = c.unsigned()?;
    let batch_size = c.number()?;
    let attempts = c.number()?;
    let (prepared_at, signed_at) = (c.time()?, c.time()?);
    times.submitted = c.time()?;
    times.included = c.time()?;
    times.confirmed = c.time()?;
    times.timed_out = c.time()?;
    let block = c.block()?;
    let (gas_used, price, l1_fee) = (c.unsigned()?, c.wei()?, c.wei()?);
    let cost =
        gas_used.zip(price).map(|(gas_used, effective_gas_price)| Cost { gas_used, effective_gas_price, l1_fee });
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let own = nonce.zip(prepared_at).zip(signed_at).map(|((nonce, prepared_at), signed_at)| OwnTransaction {
        nonce,
        batch_size: small(batch_size),
        attempts: small(attempts),
        prepared_at,
        signed_at,
        cost,
    });
    Ok(hash.zip(from).map(|(hash, from)| Transaction { hash, from, block, own }))
}

/// The bytes of a column as a value of fixed size.
fn fixed_bytes<T: for<'a> TryFrom<&'a [u8]>>(column: &[u8]) -> Result<T, StoreError> {
    T::try_from(column)
        .map_err(|_| StoreError::corrupt(format!("a value of {} bytes has the wrong length", column.len())))
}

/// The JSON of a diagnosis in its column.
#[derive(Serialize, Deserialize)]
struct StoredDiagnosis {
    cause: String,
    explanation: String,
    evidence: BTreeMap<String, String>,
    time: i64,
}

pub(super) fn encode_diagnosis(diagnosis: &Diagnosis) -> Result<String, StoreError> {
    let stored = StoredDiagnosis {
        cause: diagnosis.cause.code().to_owned(),
        explanation: diagnosis.explanation.clone(),
        evidence: diagnosis.evidence.clone(),
        time: diagnosis.time.micros(),
    };
    serde_json::to_string(&stored).map_err(StoreError::corrupt)
}

fn decode_diagnosis(text: &str) -> Result<Diagnosis, StoreError> {
    let stored: StoredDiagnosis = serde_json::from_str(text).map_err(StoreError::corrupt)?;
    Ok(Diagnosis {
        cause: stored.cause.parse().map_err(StoreError::corrupt)?,
        explanation: stored.explanation,
        evidence: stored.evidence,
        time: Timestamp::from_micros(stored.time),
    })
}

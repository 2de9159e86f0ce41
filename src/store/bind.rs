//! How domain values are bound to statements. The columns that hold them are `BYTEA`, `TEXT` and `BIGINT`.

use super::query::{Query, Value, value_from};
use crate::registration::{Block, CaseId, Cost, DocumentHash, RegistrationId, Timestamp, TransactionId};

value_from!(RegistrationId as Bytes, id => id.as_bytes().to_vec());
value_from!(TransactionId as Bytes, id => id.as_bytes().to_vec());
value_from!(DocumentHash as Bytes, hash => hash.as_bytes().to_vec());
value_from!(CaseId as Text, case_id => case_id.as_str().to_owned().into());
value_from!(Timestamp as Integer, time => time.micros());

pub(super) fn bind_ids(query: Query, ids: &[RegistrationId]) -> Query {
    ids.iter().fold(query, |query, id| query.bind(*id))
}

/// `block_number, block_hash, block_time, gas_used, effective_gas_price, l1_fee`.
pub(super) fn bind_inclusion(query: Query, block: &Block, cost: &Cost) -> Query {
    bind_cost(query.bind(block.number.cast_signed()).bind(block.hash.to_vec()).bind(block.time), cost)
}

/// `gas_used, effective_gas_price, l1_fee`.
pub(super) fn bind_cost(query: Query, cost: &Cost) -> Query {
    query
        .bind(cost.gas_used.cast_signed())
        .bind(cost.effective_gas_price.to_string())
        .bind(cost.l1_fee.map(|fee| fee.to_string()))
}

/// A number as a column holds it; what does not fit is far above every value that occurs.
pub(super) fn clamp(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

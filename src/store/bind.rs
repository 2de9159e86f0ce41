//! How domain values are bound to statements. The columns that hold them are `BYTEA`, `TEXT` and `BIGINT`.

use crate::registration::{Block, CaseId, Cost, DocumentHash, RegistrationId, Timestamp, TransactionId};
use sqlx::{Any, Database, Encode, Type, any::AnyTypeInfo, encode::IsNull, error::BoxDynError, query::Query};

pub(super) type AnyQuery<'q> = Query<'q, Any, <Any as Database>::Arguments>;

macro_rules! bound_as {
    ($type:ty as $column:ty, $value:ident => $encoded:expr) => {
        impl Type<Any> for $type {
            fn type_info() -> AnyTypeInfo {
                <$column as Type<Any>>::type_info()
            }
        }

        impl Encode<'_, Any> for $type {
            fn encode_by_ref(&self, buffer: &mut <Any as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let $value = self;
                <$column as Encode<'_, Any>>::encode($encoded, buffer)
            }
        }
    };
}

bound_as!(RegistrationId as Vec<u8>, id => id.as_bytes().to_vec());
bound_as!(TransactionId as Vec<u8>, id => id.as_bytes().to_vec());
bound_as!(DocumentHash as Vec<u8>, hash => hash.as_bytes().to_vec());
bound_as!(CaseId as String, case_id => case_id.as_str().to_owned());
bound_as!(Timestamp as i64, time => time.micros());

pub(super) fn bind_ids<'q>(query: AnyQuery<'q>, ids: &[RegistrationId]) -> AnyQuery<'q> {
    ids.iter().fold(query, |query, id| query.bind(*id))
}

/// `block_number, block_hash, block_time, gas_used, effective_gas_price, l1_fee`.
pub(super) fn bind_inclusion<'q>(query: AnyQuery<'q>, block: &Block, cost: &Cost) -> AnyQuery<'q> {
    bind_cost(query.bind(block.number.cast_signed()).bind(block.hash.to_vec()).bind(block.time), cost)
}

/// `gas_used, effective_gas_price, l1_fee`.
pub(super) fn bind_cost<'q>(query: AnyQuery<'q>, cost: &Cost) -> AnyQuery<'q> {
    query
        .bind(cost.gas_used.cast_signed())
        .bind(cost.effective_gas_price.to_string())
        .bind(cost.l1_fee.map(|fee| fee.to_string()))
}

/// A number as a column holds it; what does not fit is far above every value that occurs.
pub(super) fn clamp(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

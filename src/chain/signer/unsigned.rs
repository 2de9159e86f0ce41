//! A transaction before it is signed.

use crate::registration::policy::fees::Fees;
use alloy::{
    consensus::{Transaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Decodable2718,
    primitives::{Address, Bytes, TxKind, U256},
};

/// Without value and access list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnsignedTransaction {
    pub chain_id: u64,
    pub nonce: u64,
    /// `None` deploys a contract.
    pub to: Option<Address>,
    pub calldata: Bytes,
    pub gas_limit: u64,
    pub fees: Fees,
}

impl UnsignedTransaction {
    /// That of these signed bytes, with other fees. `None` when they are not such a transaction.
    pub(crate) fn with_fees(raw: &Bytes, fees: Fees) -> Option<Self> {
        let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).ok()?;
        let transaction = envelope.as_eip1559()?.tx();
        let unsigned = Self {
            chain_id: transaction.chain_id,
            nonce: transaction.nonce,
            to: transaction.to(),
            calldata: transaction.input.clone(),
            gas_limit: transaction.gas_limit,
            fees: Fees {
                max_fee_per_gas: transaction.max_fee_per_gas,
                max_priority_fee_per_gas: transaction.max_priority_fee_per_gas,
            },
        };
        (unsigned.to_eip1559() == *transaction).then_some(Self { fees, ..unsigned })
    }

    pub(super) fn to_eip1559(&self) -> TxEip1559 {
        TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: self.gas_limit,
            max_fee_per_gas: self.fees.max_fee_per_gas,
            max_priority_fee_per_gas: self.fees.max_priority_fee_per_gas,
            to: self.to.map_or(TxKind::Create, TxKind::Call),
            value: U256::ZERO,
            access_list: Default::default(),
            input: self.calldata.clone(),
        }
    }
}

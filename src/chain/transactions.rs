//! Transactions of our signers, read from the chain: for a store that was restored from an older backup.

use super::{
    BlockTag, CallError, Chain,
    client::prefer_nonempty,
    contract::registrar_topics,
    rpc_types::{LogFilter, RpcLog},
};
use crate::registration::policy::fees::Fees;
use alloy::{
    consensus::{Transaction as _, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes},
    rpc::types::Transaction,
};

/// As it was broadcast.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedTransaction {
    pub hash: B256,
    /// Recovered from the signature.
    pub from: Address,
    pub to: Option<Address>,
    pub nonce: u64,
    pub gas_limit: u64,
    pub fees: Fees,
    /// EIP-2718.
    pub raw: Bytes,
}

impl Chain {
    /// `None` proves nothing. Sender and contents are derived from signature and hash, so a node cannot forge them.
    pub(crate) async fn transaction(&self, hash: B256) -> Result<Option<SignedTransaction>, CallError> {
        let quality = |found: &Option<serde_json::Value>| prefer_nonempty(found.is_some());
        let found = self.pool.read("eth_getTransactionByHash", (hash,), quality).await?;
        // A transaction type that alloy cannot decode is none that we sign.
        let found = found.and_then(|json| serde_json::from_value::<Transaction>(json).ok());
        Ok(found.and_then(|found| decode_transaction(found.inner.inner())).filter(|found| found.hash == hash))
    }

    /// From one block to another, in as many requests as the endpoints' limits make necessary.
    pub(crate) async fn registrations_by(
        &self,
        registrar: Address,
        from: u64,
        to: u64,
    ) -> Result<Vec<B256>, CallError> {
        let (mut from, mut hashes) = (from, Vec::new());
        while from <= to {
            let end = self.log_range.end(from, to);
            match self.registrations_in(registrar, from, end).await {
                Ok(found) => {
                    hashes.extend(found);
                    from = end + 1;
                }
                Err(error) if error.is_range_too_large() && self.log_range.shrink(from, end) => {}
                Err(error) => return Err(error),
            }
        }
        hashes.dedup();
        Ok(hashes)
    }

    async fn registrations_in(&self, registrar: Address, from: u64, to: u64) -> Result<Vec<B256>, CallError> {
        let filter = LogFilter {
            from_block: BlockTag::Number(from).to_param(),
            to_block: BlockTag::Number(to).to_param(),
            address: self.contract(),
            topics: registrar_topics(registrar),
        };
        let logs =
            self.pool.read("eth_getLogs", (filter,), |logs: &Vec<RpcLog>| prefer_nonempty(!logs.is_empty())).await?;
        Ok(logs.into_iter().filter_map(|log| log.transaction_hash).collect())
    }
}

pub(super) fn decode_transaction(envelope: &TxEnvelope) -> Option<SignedTransaction> {
    let max_fee_per_gas = envelope.max_fee_per_gas();
    Some(SignedTransaction {
        // Computed from the bytes: the hash in a node's response is not verified.
        hash: envelope.trie_hash(),
        from: envelope.signature().recover_address_from_prehash(&envelope.signature_hash()).ok()?,
        to: envelope.to(),
        nonce: envelope.nonce(),
        gas_limit: envelope.gas_limit(),
        fees: Fees {
            max_fee_per_gas,
            max_priority_fee_per_gas: envelope.max_priority_fee_per_gas().unwrap_or(max_fee_per_gas),
        },
        raw: envelope.encoded_2718().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Signer, UnsignedTransaction};
    use alloy::{consensus::transaction::Recovered, eips::eip2718::Decodable2718};

    #[tokio::test]
    async fn sender_and_hash_come_from_the_signature_and_not_from_the_node() {
        let signer =
            Signer::parse("0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d").expect("a key");
        let fees = Fees { max_fee_per_gas: 7, max_priority_fee_per_gas: 2 };
        let to = Some(Address::repeat_byte(3));
        let unsigned = UnsignedTransaction {
            chain_id: 1,
            nonce: 5,
            to,
            calldata: Bytes::from_static(&[1, 2]),
            gas_limit: 9,
            fees,
        };
        let (hash, raw) = signer.sign(&unsigned).await.expect("a signature");
        let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).expect("a transaction");
        let response = Transaction {
            inner: Recovered::new_unchecked(envelope, Address::repeat_byte(8)),
            block_hash: None,
            block_number: None,
            transaction_index: None,
            effective_gas_price: None,
            block_timestamp: None,
        };
        let json = serde_json::to_value(response).expect("JSON");

        let parsed: Transaction = serde_json::from_value(json).expect("a transaction");

        let expected = SignedTransaction { hash, from: signer.address(), to, nonce: 5, gas_limit: 9, fees, raw };
        assert_eq!(decode_transaction(parsed.inner.inner()), Some(expected));
    }
}

//! What a signer of ours has sent, as the chain tells it: for a store that does not know of it.

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

/// A signed transaction, as it was broadcast.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedTransaction {
    /// Its hash.
    pub hash: B256,
    /// Who signed it, by the signature.
    pub from: Address,
    /// Whom it calls.
    pub to: Option<Address>,
    /// The signer's nonce.
    pub nonce: u64,
    /// Its gas limit.
    pub gas_limit: u64,
    /// What it offers.
    pub fees: Fees,
    /// Its bytes (EIP-2718).
    pub raw: Bytes,
}

impl Chain {
    /// A transaction by its hash; `None` proves nothing. Who signed it and what it says is read from its signature and its hash, not
    /// taken on the node's word.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn transaction(&self, hash: B256) -> Result<Option<SignedTransaction>, CallError> {
        let worth = |found: &Option<serde_json::Value>| prefer_nonempty(found.is_some());
        let found = self.pool.read("eth_getTransactionByHash", (hash,), worth).await?;
        // A kind that this library does not know is none that we sign.
        let found = found.and_then(|json| serde_json::from_value::<Transaction>(json).ok());
        Ok(found.and_then(|found| decode_transaction(found.inner.inner())).filter(|found| found.hash == hash))
    }

    /// The transactions in which this account registered something, from one block to another: at most 10,000 of them, as public
    /// nodes allow.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn registrations_by(
        &self,
        registrar: Address,
        from: u64,
        to: u64,
    ) -> Result<Vec<B256>, CallError> {
        let filter = LogFilter {
            from_block: BlockTag::Number(from).to_param(),
            to_block: BlockTag::Number(to).to_param(),
            address: self.contract(),
            topics: registrar_topics(registrar),
        };
        let logs =
            self.pool.read("eth_getLogs", (filter,), |logs: &Vec<RpcLog>| prefer_nonempty(!logs.is_empty())).await?;
        let mut hashes: Vec<B256> = logs.into_iter().filter_map(|log| log.transaction_hash).collect();
        hashes.dedup();
        Ok(hashes)
    }
}

fn decode_transaction(envelope: &TxEnvelope) -> Option<SignedTransaction> {
    let max_fee_per_gas = envelope.max_fee_per_gas();
    Some(SignedTransaction {
        // From its bytes, for the hash in a node's answer is only what it says.
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
    use crate::chain::{Signer, UnsignedTransaction, sign};
    use alloy::{consensus::transaction::Recovered, eips::eip2718::Decodable2718};

    #[test]
    fn what_we_signed_is_known_again_by_its_signature_whatever_the_node_says() {
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
        let (hash, raw) = sign(&signer, &unsigned).expect("a signature");
        let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).expect("a transaction");
        let told = Transaction {
            inner: Recovered::new_unchecked(envelope, Address::repeat_byte(8)),
            block_hash: None,
            block_number: None,
            transaction_index: None,
            effective_gas_price: None,
            block_timestamp: None,
        };
        let json = serde_json::to_value(told).expect("JSON");

        let told: Transaction = serde_json::from_value(json).expect("a transaction");

        let expected = SignedTransaction { hash, from: signer.address(), to, nonce: 5, gas_limit: 9, fees, raw };
        assert_eq!(decode_transaction(told.inner.inner()), Some(expected));
    }
}

//! Nonces of an account, and what proves them.

use super::{
    BlockTag, CallError, Chain, EndpointResponse, FanOut,
    client::prefer_nonempty,
    quantity::{OUT_OF_RANGE, Quantity},
    transactions::decode_transaction,
};
use alloy::{
    primitives::{Address, B256, U64},
    rpc::types::Transaction,
};
use serde::Deserialize;

/// More than any account can have sent: a million transactions per second for twelve days. EIP-2681 allows more.
const MAX_PLAUSIBLE_NONCE: u64 = 1 << 40;

/// As a node returns it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Quantity")]
pub(super) struct RpcNonce(u64);

#[derive(Debug, thiserror::Error)]
#[error("nonce {0} is {OUT_OF_RANGE}: no account has sent that many transactions")]
pub(super) struct ImplausibleNonce(u64);

impl TryFrom<Quantity> for RpcNonce {
    type Error = ImplausibleNonce;

    fn try_from(nonce: Quantity) -> Result<Self, ImplausibleNonce> {
        let nonce = nonce.get();
        if nonce > MAX_PLAUSIBLE_NONCE { Err(ImplausibleNonce(nonce)) } else { Ok(Self(nonce)) }
    }
}

impl RpcNonce {
    pub(super) fn get(self) -> u64 {
        self.0
    }
}

impl Chain {
    /// At the head: how many of the account's transactions are included.
    pub(crate) async fn nonce(&self, account: Address) -> Result<u64, CallError> {
        self.pool.nonce(account).await
    }

    /// The account's nonce at each endpoint's head.
    pub(crate) async fn nonces_from_many(&self, account: Address, fan_out: FanOut) -> Vec<EndpointResponse<u64>> {
        self.query_many("eth_getTransactionCount", (account, "latest"), fan_out, RpcNonce::get).await
    }

    /// The account's nonce as of the end of block `number`.
    pub(crate) async fn nonces_at_block_from_many(
        &self,
        account: Address,
        number: u64,
        fan_out: FanOut,
    ) -> Vec<EndpointResponse<u64>> {
        let params = (account, BlockTag::Number(number).to_param());
        self.query_many("eth_getTransactionCount", params, fan_out, RpcNonce::get).await
    }

    /// The hash of the account's included transaction with this nonce. The signature proves that the account sent it,
    /// so that one endpoint's answer is enough. `None` where no endpoint has it or offers the method: reth, Erigon and
    /// anvil do.
    pub(crate) async fn included_transaction(&self, account: Address, nonce: u64) -> Option<B256> {
        let quality = |found: &Option<serde_json::Value>| prefer_nonempty(found.is_some());
        let params = (account, U64::from(nonce));
        let found = self.pool.read("eth_getTransactionBySenderAndNonce", params, quality).await.ok()??;
        let found: Transaction = serde_json::from_value(found).ok()?;
        found.block_hash.filter(|hash| !hash.is_zero())?;
        let signed = decode_transaction(found.inner.inner())?;
        ((signed.from, signed.nonce) == (account, nonce)).then_some(signed.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_implausible_nonce_is_no_answer() {
        let read = |json: &str| serde_json::from_str::<RpcNonce>(json).map(RpcNonce::get).ok();
        for (json, expected) in [
            (r#""0x0""#, Some(0)),
            (r#""0x2d""#, Some(45)),
            (r#""0x10000000000""#, Some(1 << 40)),
            (r#""0x10000000001""#, None),
            (r#""0x4000000000000000""#, None),
            (r#""0xffffffffffffffff""#, None),
            (r#""0x10000000000000000""#, None),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }
}

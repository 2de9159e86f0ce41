//! Sends one transaction for a command, and waits until it is in a block.

use super::{
    CallError, Chain, FanOut, SignError, Signer, UnsignedTransaction, backoff::Backoff, real_answers,
    rpc_types::Receipt,
};
use crate::registration::policy::{
    batching::TRANSACTION_GAS_CAP,
    fees::{self, FeeCapExceeded},
};
use alloy::primitives::{Address, B256, Bytes, U256, utils::format_ether};
use std::time::Duration;

const INCLUSION_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}; wait, or raise REGISTRAR_MAX_FEE_GWEI")]
    Fees(#[from] FeeCapExceeded),
    #[error(
        "{signer} has {} ETH, but the transaction may cost {} ETH; fund it",
        format_ether(*balance),
        format_ether(*needed)
    )]
    InsufficientFunds { signer: Address, balance: U256, needed: U256 },
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the transaction {0} reverted")]
    Reverted(B256),
    #[error("the transaction {0} was not included within {INCLUSION_TIMEOUT:?}; check its status before trying again")]
    NotIncluded(B256),
}

/// `to` is absent for a deployment. Returns hash and receipt of a transaction that succeeded.
pub(super) async fn send_transaction(
    chain: &Chain,
    signer: &Signer,
    to: Option<Address>,
    calldata: Bytes,
) -> Result<(B256, Receipt), TransactionError> {
    let address = signer.address();
    let sender = chain.sender_state(address).await?;
    let cap = chain.max_fee_per_gas();
    let base_fee = chain.checked_head(sender.head).base_fee;
    let fees = fees::price(base_fee, fees::priority_fee(sender.fee_market.tip, None, base_fee, cap), cap)?;
    let estimate = chain.estimate_gas(address, to, &calldata).await?;
    let gas_limit = (estimate + estimate / 10).min(TRANSACTION_GAS_CAP);
    let needed = U256::from(gas_limit) * U256::from(fees.max_fee_per_gas);
    let mut balance = sender.balance;
    if balance < needed {
        balance = balance.max(chain.highest_balance(address).await.unwrap_or_default());
    }
    if balance < needed {
        return Err(TransactionError::InsufficientFunds { signer: address, balance, needed });
    }
    // An endpoint that reports too high a nonce would leave the transaction behind a gap.
    let nonces = chain.nonces_from_many(address, FanOut::to_quorum()).await;
    let nonce = real_answers(nonces).into_iter().fold(sender.nonce, u64::min);
    let unsigned = UnsignedTransaction { chain_id: chain.network().chain_id, nonce, to, calldata, gas_limit, fees };
    let (hash, raw) = signer.sign(&unsigned).await?;
    chain.send(&raw).await?;
    match tokio::time::timeout(INCLUSION_TIMEOUT, wait_for_receipt(chain, hash)).await {
        Ok(receipt) if receipt.succeeded => Ok((hash, receipt)),
        Ok(_) => Err(TransactionError::Reverted(hash)),
        Err(_) => Err(TransactionError::NotIncluded(hash)),
    }
}

async fn wait_for_receipt(chain: &Chain, hash: B256) -> Receipt {
    let mut backoff = Backoff::with_max_delay(Duration::from_secs(1));
    loop {
        if let Ok(Some(receipt)) = chain.receipt(hash).await {
            return receipt;
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

//! What the rest of the service asks of the chain: which question, and what an answer to it is worth. The pool finds who answers.

use super::{
    BlockTag, CallError, EndpointFault, FeeHistory, Header, Network, PoolStatus, Receipt, RejectReason, Settings,
    contract::{self, DocumentRegistry},
    endpoint::SetupError,
    fee_market::{FeeMarket, FeeMarketCache},
    l1_fee::GasPriceOracle,
    pool::{AnswerQuality, BroadcastResult, EndpointPool},
    rpc_types::{BLOCK_BY_NUMBER, CallRequest, LogFilter, RpcFeeHistory, RpcHeader, RpcLog, RpcReceipt},
};
use crate::registration::{Block, Pair};
use alloy::{
    primitives::{Address, B256, Bytes, U64, U256},
    sol_types::SolCall,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The chain, the contract on it, and the way there.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(super) pool: EndpointPool,
    network: Arc<Network>,
    contract: Address,
    max_fee_per_gas: u128,
    pub(super) fee_market_cache: FeeMarketCache,
    pub(super) gas_price_oracle: GasPriceOracle,
}

/// What preparing a transaction needs to know, asked in one go.
#[derive(Debug, Clone)]
pub struct SenderState {
    /// The head.
    pub head: Header,
    /// The signer's nonce at the head: the next one that the chain would take.
    pub nonce: u64,
    /// The signer's balance in wei.
    pub balance: U256,
    /// What blocks ask.
    pub fee_market: FeeMarket,
}

/// A pair's record on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnChainRecord {
    /// Who registered it.
    pub registrar: Address,
    /// In which block.
    pub block_number: u64,
}

/// A pair's registration on chain, with the transaction that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationEvent {
    /// Who registered it.
    pub registrar: Address,
    /// In which transaction.
    pub transaction: B256,
    /// In which block.
    pub block: Block,
}

impl Chain {
    /// The chain of the settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the TLS stack cannot be set up.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let network = Network::from_chain_id(settings.chain_id);
        let pool = EndpointPool::new(&settings.endpoints, settings.chain_id, network.is_local())?;
        Ok(Self::from_pool(pool, network, settings.contract, settings.max_fee_per_gas))
    }

    /// The contract on a network, reached through this pool.
    pub(super) fn from_pool(pool: EndpointPool, network: Network, contract: Address, max_fee_per_gas: u128) -> Self {
        Self {
            pool,
            network: Arc::new(network),
            contract,
            max_fee_per_gas,
            fee_market_cache: FeeMarketCache::default(),
            gas_price_oracle: GasPriceOracle::default(),
        }
    }

    /// Which network it is.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The DocumentRegistry.
    pub(crate) fn contract(&self) -> Address {
        self.contract
    }

    /// Hard cap, in wei per gas.
    pub(crate) fn max_fee_per_gas(&self) -> u128 {
        self.max_fee_per_gas
    }

    /// Whether an endpoint is usable now.
    pub(crate) fn is_healthy(&self) -> bool {
        self.pool.is_usable()
    }

    /// How many endpoints there are, usable or not.
    pub(crate) fn endpoint_count(&self) -> usize {
        self.pool.status().endpoints.len()
    }

    /// The endpoint that transactions go to first.
    pub(crate) fn primary(&self) -> &str {
        self.pool.primary()
    }

    /// Probes the endpoints until `stop`. Without it, one that is down stays so.
    pub(crate) async fn run_probes(&self, stop: &CancellationToken) {
        self.pool.run_probes(stop).await;
    }

    /// Whether the contract allows this account to register.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn is_registrar(&self, account: Address) -> Result<bool, CallError> {
        Ok(self.view(&DocumentRegistry::isRegistrarCall { account }).await?.unwrap_or(false))
    }

    /// The head. It never goes back, but when the chain's head really falls (see [`Self::falls`]).
    ///
    /// # Errors
    /// When no endpoint shows a head that can be believed.
    pub(crate) async fn head(&self) -> Result<Header, CallError> {
        self.pool.head().await
    }

    /// The head as the last probes showed it: at most three seconds old, and asks nothing.
    pub(crate) fn last_probed_head(&self) -> Option<Header> {
        self.pool.last_probed_head()
    }

    /// The nonce of this account as it was last seen; asks nothing.
    pub(crate) fn last_seen_nonce(&self, account: Address) -> Option<u64> {
        self.pool.last_seen_nonce(account)
    }

    /// How often the head fell. Whoever followed it has to look at everything again.
    pub(crate) fn head_regressions(&self) -> u64 {
        self.pool.head_regressions()
    }

    /// A block's header; `None` when no endpoint has it.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn header(&self, tag: BlockTag) -> Result<Option<Header>, CallError> {
        let worth = |header: &Option<RpcHeader>| prefer_nonempty(header.is_some());
        match self.pool.read(BLOCK_BY_NUMBER, (tag.to_param(), false), worth).await {
            Ok(header) => Ok(header.map(Header::from)),
            Err(error) if error.reject_reason() == Some(&RejectReason::UnknownBlock) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The header of a block that every node has; its absence counts as no answer.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn require_header(&self, number: u64) -> Result<Header, CallError> {
        self.header(BlockTag::Number(number))
            .await?
            .ok_or_else(|| self.primary_error(BLOCK_BY_NUMBER, EndpointFault::Unreadable))
    }

    /// The signer's nonce at the head: how many of its transactions are in blocks.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn nonce(&self, account: Address) -> Result<u64, CallError> {
        self.pool.nonce(account).await
    }

    /// The account's balance in wei.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn balance(&self, account: Address) -> Result<U256, CallError> {
        self.pool.read("eth_getBalance", (account, "latest"), |_| AnswerQuality::Accept).await
    }

    /// What preparing a transaction of this account needs to know.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn sender_state(&self, account: Address) -> Result<SenderState, CallError> {
        let (head, nonce, balance, market) =
            tokio::try_join!(self.head(), self.nonce(account), self.balance(account), self.fee_market())?;
        Ok(SenderState { head, nonce, balance, fee_market: market })
    }

    /// Runs the registration of these pairs at the head without sending it; returns how many were new.
    ///
    /// # Errors
    /// [`Refusal::Reverted`] when it would revert.
    pub(crate) async fn simulate(&self, from: Address, calldata: &Bytes, gas_limit: u64) -> Result<usize, CallError> {
        let answer = self.call(Some(from), Some(gas_limit), calldata, prefer_nonempty_bytes).await?;
        contract::decode_registered_count(&answer).ok_or_else(|| self.undecodable_answer_error(&answer))
    }

    /// The records of these pairs at the head, in order; `None` where there is none.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn records(&self, pairs: &[Pair]) -> Result<Vec<Option<OnChainRecord>>, CallError> {
        // One that has no record may be behind one that has.
        let complete = |answer: &Bytes| {
            let records = DocumentRegistry::recordsOfCall::abi_decode_returns(answer).unwrap_or_default();
            prefer_nonempty(!records.is_empty() && records.iter().all(|record| !record.registrar.is_zero()))
        };
        let result = self.call(None, None, &contract::records_calldata(pairs), complete).await?;
        let records = DocumentRegistry::recordsOfCall::abi_decode_returns(&result)
            .ok()
            .filter(|records| records.len() == pairs.len())
            .ok_or_else(|| self.undecodable_answer_error(&result))?;
        let found = |record: DocumentRegistry::Record| {
            (!record.registrar.is_zero())
                .then(|| OnChainRecord { registrar: record.registrar, block_number: record.blockNumber.to() })
        };
        Ok(records.into_iter().map(found).collect())
    }

    /// The transaction that made a pair's record, by its event in the record's block; `None` when the node does not have it
    /// (yet, or any more).
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn find_registration(
        &self,
        pair: &Pair,
        record: OnChainRecord,
    ) -> Result<Option<RegistrationEvent>, CallError> {
        let number = BlockTag::Number(record.block_number);
        let filter = LogFilter {
            from_block: number.to_param(),
            to_block: number.to_param(),
            address: self.contract,
            topics: contract::registration_topics(pair).map(Some).to_vec(),
        };
        let logs = self.pool.read("eth_getLogs", (filter,), |logs: &Vec<RpcLog>| prefer_nonempty(!logs.is_empty()));
        let (logs, header) = tokio::try_join!(logs, self.header(number))?;
        let event = logs.into_iter().find_map(|log| Some((log.transaction_hash?, log.block_hash?)));
        Ok(event.zip(header).filter(|((_, block_hash), header)| *block_hash == header.block.hash).map(
            |((transaction, _), header)| RegistrationEvent {
                registrar: record.registrar,
                transaction,
                block: header.block,
            },
        ))
    }

    /// Every endpoint and the head, as last seen; asks nothing.
    pub(crate) fn pool_status(&self) -> PoolStatus {
        self.pool.status()
    }

    /// Fees of the newest `blocks` blocks.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn fee_history(&self, blocks: u64) -> Result<FeeHistory, CallError> {
        let params = (U64::from(blocks), BlockTag::Latest.to_param(), [FeeHistory::REWARD_PERCENTILE]);
        let wire = self.pool.read("eth_feeHistory", params, |_: &RpcFeeHistory| AnswerQuality::Accept).await?;
        Ok(wire.into())
    }

    /// Runs calldata of `from` on the contract as of the end of block `number`: its revert data when it reverts, else `None`.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn revert_at(
        &self,
        from: Address,
        calldata: &Bytes,
        gas_limit: u64,
        number: u64,
    ) -> Result<Option<Bytes>, CallError> {
        let call = CallRequest {
            from: Some(from),
            to: self.contract,
            gas: Some(U64::from(gas_limit)),
            data: calldata.clone(),
        };
        match self
            .pool
            .read("eth_call", (call, BlockTag::Number(number).to_param()), |_: &Bytes| AnswerQuality::Accept)
            .await
        {
            Ok(_) => Ok(None),
            Err(error) => match error.reject_reason() {
                Some(RejectReason::Reverted(data)) => Ok(Some(data.clone())),
                _ => Err(error),
            },
        }
    }

    /// A transaction's receipt; `None` proves nothing.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, CallError> {
        let worth = |receipt: &Option<RpcReceipt>| prefer_nonempty(receipt.is_some());
        let receipt = self.pool.read("eth_getTransactionReceipt", (hash,), worth).await?;
        Ok(receipt.and_then(|wire| Receipt::from_rpc(wire, self.contract)))
    }

    /// Sends signed bytes to the endpoint that comes first, and to all others when its answer leaves open whether it has them. A
    /// node that has them already counts as success.
    ///
    /// # Errors
    /// When no node took them, or it is not clear whether one did.
    pub(crate) async fn send(&self, raw: &Bytes) -> Result<BroadcastResult, CallError> {
        self.pool.send(raw).await
    }

    /// Sends signed bytes that no block shows to every endpoint: the one that took them may have forgotten them, or kept them to
    /// itself.
    ///
    /// # Errors
    /// When no node took them, or it is not clear whether one did.
    pub(crate) async fn send_to_all(&self, raw: &Bytes) -> Result<BroadcastResult, CallError> {
        self.pool.send_to_all(raw).await
    }

    /// How much gas deploying takes, by the node's estimate.
    pub(super) async fn estimate_deploy(&self, from: Address, code: &Bytes) -> Result<u64, CallError> {
        let call = serde_json::json!({ "from": from, "data": code });
        let gas = self.pool.read("eth_estimateGas", (call,), |_: &U64| AnswerQuality::Accept).await?;
        Ok(gas.to())
    }

    pub(super) async fn view<C: SolCall>(&self, call: &C) -> Result<Option<C::Return>, CallError> {
        match self.call(None, None, &call.abi_encode().into(), prefer_nonempty_bytes).await {
            Ok(answer) => Ok(C::abi_decode_returns(&answer).ok()),
            Err(error) if matches!(error.reject_reason(), Some(RejectReason::Reverted(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn call(
        &self,
        from: Option<Address>,
        gas: Option<u64>,
        data: &Bytes,
        worth: impl Fn(&Bytes) -> AnswerQuality,
    ) -> Result<Bytes, CallError> {
        let call = CallRequest { from, to: self.contract, gas: gas.map(U64::from), data: data.clone() };
        self.pool.read("eth_call", (call, BlockTag::Latest.to_param()), worth).await
    }

    fn undecodable_answer_error(&self, answer: &Bytes) -> CallError {
        self.primary_error(
            "eth_call",
            if answer.is_empty() { EndpointFault::NoContract } else { EndpointFault::Unreadable },
        )
    }

    /// Nobody had a better answer; the first endpoint stands for all.
    fn primary_error(&self, method: &'static str, fault: EndpointFault) -> CallError {
        CallError::unavailable(self.pool.primary(), method, fault)
    }
}

/// A call to an address without code succeeds with nothing.
pub(super) fn prefer_nonempty_bytes(answer: &Bytes) -> AnswerQuality {
    prefer_nonempty(!answer.is_empty())
}

/// An answer that says something is good; another endpoint may know more than one that says nothing.
pub(super) fn prefer_nonempty(says_something: bool) -> AnswerQuality {
    if says_something { AnswerQuality::Accept } else { AnswerQuality::TryNext }
}

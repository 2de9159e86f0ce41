//! The chain as the rest of the service sees it: which call answers a question, and when a response is good enough.
//! The pool chooses the endpoints.

use super::{
    BlockTag, CallError, EndpointFault, FeeHistory, Header, Network, Receipt, RejectReason, Settings,
    contract::{self, DocumentRegistry},
    endpoint::SetupError,
    fee_market::{FeeMarket, FeeMarketCache, fee_history},
    l1_fee::GasPriceOracle,
    log_range::LogRange,
    pool::{AnswerQuality, BroadcastResult, EndpointPool},
    proof_support::ProofSupport,
    quantity::{Quantity, Wei},
    rpc_types::{BLOCK_BY_NUMBER, CallRequest, RpcHeader, RpcReceipt},
};
use crate::registration::{
    Block, Pair,
    diagnosis::{ChainSnapshot, HeadSnapshot, StallSnapshot},
    policy::batching::TRANSACTION_GAS_CAP,
};
use alloy::{
    primitives::{Address, B256, Bytes, U64, U256},
    sol_types::SolCall,
};
use parking_lot::Mutex;
use std::{collections::BTreeSet, sync::Arc};
use tokio_util::sync::CancellationToken;

/// The contract on its chain, reached through the endpoint pool.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(super) pool: EndpointPool,
    network: Arc<Network>,
    contract: Address,
    max_fee_per_gas: u128,
    fee_market_cache: FeeMarketCache,
    gas_price_oracle: GasPriceOracle,
    pub(super) log_range: LogRange,
    /// Finality tags that were reported as not offered.
    pub(super) missing_tags: Arc<Mutex<BTreeSet<BlockTag>>>,
    pub(super) proof_support: ProofSupport,
}

/// What the preparation of a transaction needs to know.
#[derive(Debug, Clone)]
pub struct SenderState {
    pub head: Header,
    /// At the head: the next nonce that the chain accepts.
    pub nonce: u64,
    /// In wei.
    pub balance: U256,
    pub fee_market: FeeMarket,
}

/// A pair's record in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnChainRecord {
    pub registrar: Address,
    pub block_number: u64,
}

/// A pair's registration with the transaction that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationEvent {
    pub registrar: Address,
    pub transaction: B256,
    pub block: Block,
}

impl Chain {
    /// Does not connect.
    ///
    /// # Errors
    /// When the TLS stack cannot be initialized.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let network = Network::from_chain_id(settings.chain_id);
        let pool = EndpointPool::new(&settings.endpoints, settings.chain_id, network.is_local())?;
        Ok(Self::from_pool(pool, network, settings.contract, settings.max_fee_per_gas))
    }

    pub(super) fn from_pool(pool: EndpointPool, network: Network, contract: Address, max_fee_per_gas: u128) -> Self {
        Self {
            pool,
            network: Arc::new(network),
            contract,
            max_fee_per_gas,
            fee_market_cache: FeeMarketCache::default(),
            gas_price_oracle: GasPriceOracle::default(),
            log_range: LogRange::default(),
            missing_tags: Arc::default(),
            proof_support: ProofSupport::default(),
        }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    pub(crate) fn contract(&self) -> Address {
        self.contract
    }

    /// In wei.
    pub(crate) fn max_fee_per_gas(&self) -> u128 {
        self.max_fee_per_gas
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.pool.is_usable()
    }

    /// Whether a usable endpoint limits the rate now.
    pub(crate) fn is_throttled(&self) -> bool {
        self.pool.is_throttled()
    }

    /// Usable or not.
    pub(crate) fn endpoint_count(&self) -> usize {
        self.pool.endpoint_count()
    }

    /// Receives transactions first.
    pub(crate) fn primary(&self) -> &str {
        self.pool.primary()
    }

    /// An endpoint that is down stays so without probes.
    pub(crate) async fn run_probes(&self, stop: &CancellationToken) {
        self.pool.run_probes(stop).await;
    }

    pub(crate) async fn is_registrar(&self, account: Address) -> Result<bool, CallError> {
        Ok(self.view(&DocumentRegistry::isRegistrarCall { account }).await?.unwrap_or(false))
    }

    /// Never decreases, except when the chain's head regresses (see [`Self::head_regressions`]).
    pub(crate) async fn head(&self) -> Result<Header, CallError> {
        self.pool.head().await
    }

    /// At most three seconds old; makes no call.
    pub(crate) fn last_probed_head(&self) -> Option<Header> {
        self.pool.last_probed_head()
    }

    /// Makes no call.
    pub(crate) fn last_seen_nonce(&self, account: Address) -> Option<u64> {
        self.pool.last_seen_nonce(account)
    }

    /// A change means that everything derived from earlier heads has to be checked again.
    pub(crate) fn head_regressions(&self) -> u64 {
        self.pool.head_regressions()
    }

    /// `None` when no endpoint has the block.
    pub(crate) async fn header(&self, tag: BlockTag) -> Result<Option<Header>, CallError> {
        match self.read_header(tag).await {
            Err(error) if error.reject_reason() == Some(&RejectReason::UnknownBlock) => Ok(None),
            header => header,
        }
    }

    pub(super) async fn read_header(&self, tag: BlockTag) -> Result<Option<Header>, CallError> {
        let quality = |header: &Option<RpcHeader>| prefer_nonempty(header.is_some());
        let header = self.pool.read(BLOCK_BY_NUMBER, (tag.to_param(), false), quality).await?;
        Ok(header.map(Header::from))
    }

    /// Of a block that every node has.
    pub(super) async fn require_header(&self, number: u64) -> Result<Header, CallError> {
        self.header(BlockTag::Number(number))
            .await?
            .ok_or_else(|| self.primary_error(BLOCK_BY_NUMBER, EndpointFault::Unreadable))
    }

    /// In wei.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn balance(&self, account: Address) -> Result<U256, CallError> {
        let balance = self.pool.read("eth_getBalance", (account, "latest"), |_: &Wei| AnswerQuality::Accept).await?;
        Ok(balance.get())
    }

    /// The head with what would block work compared with other endpoints, where there are any: the lowest base fee, if
    /// the head's is above the fee cap, and the highest block gas limit, if the head's is below a transaction's. Makes no
    /// call.
    pub(crate) fn checked_head(&self, head: Header) -> Header {
        if self.endpoint_count() < 2 {
            return head;
        }
        let mut checked = head;
        for other in self.pool.last_probed_heads() {
            if head.base_fee > self.max_fee_per_gas {
                checked.base_fee = checked.base_fee.min(other.base_fee);
            }
            if head.gas_limit < TRANSACTION_GAS_CAP {
                checked.gas_limit = checked.gas_limit.max(other.gas_limit);
            }
        }
        checked
    }

    pub(crate) async fn sender_state(&self, account: Address) -> Result<SenderState, CallError> {
        let state = async { tokio::try_join!(self.head(), self.nonce(account), self.balance(account)) };
        let (state, fee_market) = tokio::join!(state, self.fee_market());
        let (head, nonce, balance) = state?;
        Ok(SenderState { head, nonce, balance, fee_market })
    }

    /// Executes the calldata at the head without sending it; returns how many pairs it would register. A revert is the
    /// error [`RejectReason::Reverted`].
    pub(crate) async fn simulate(&self, from: Address, calldata: &Bytes, gas_limit: u64) -> Result<usize, CallError> {
        let call = self.call_request(Some(from), Some(gas_limit), calldata);
        let answer = self.execute_compared(call, prefer_nonempty_bytes).await?;
        contract::decode_registered_count(&answer).ok_or_else(|| self.undecodable_answer_error(&answer))
    }

    /// At the head, in the order of `pairs`.
    pub(crate) async fn records(&self, pairs: &[Pair]) -> Result<Vec<Option<OnChainRecord>>, CallError> {
        // An endpoint without a record may be behind another one.
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

    /// Makes no call; the pool does not know for how long the caller has had `head`.
    pub(crate) fn snapshot(&self, head: Option<HeadSnapshot>) -> ChainSnapshot {
        self.pool.snapshot(head)
    }

    /// Makes no call.
    pub(crate) fn stall(&self) -> Option<StallSnapshot> {
        self.pool.stall()
    }

    pub(crate) async fn fee_history(&self, blocks: u64) -> Result<FeeHistory, CallError> {
        fee_history(&self.pool, blocks).await
    }

    pub(crate) async fn fee_market(&self) -> FeeMarket {
        self.fee_market_cache.get(&self.pool).await
    }

    pub(crate) async fn l1_fee_upper_bound(&self, size: usize, gas: u64) -> Result<U256, CallError> {
        self.gas_price_oracle.upper_bound(&self.pool, size, gas).await
    }

    /// Executes calldata as of the end of block `number`; returns the revert data, or `None` when it succeeds.
    pub(crate) async fn revert_at(
        &self,
        from: Address,
        calldata: &Bytes,
        gas_limit: u64,
        number: u64,
    ) -> Result<Option<Bytes>, CallError> {
        let call = self.call_request(Some(from), Some(gas_limit), calldata);
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

    /// `None` proves nothing.
    pub(crate) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, CallError> {
        let quality = |receipt: &Option<RpcReceipt>| prefer_nonempty(RpcReceipt::is_mined(receipt));
        let receipt = self.pool.read("eth_getTransactionReceipt", (hash,), quality).await?;
        Ok(receipt.and_then(|wire| Receipt::from_rpc(wire, self.contract)))
    }

    /// To the preferred endpoint, and to all others when its response leaves open whether it has the transaction. A
    /// node that already has it counts as success. After an error no node may have it, or some node.
    pub(crate) async fn send(&self, raw: &Bytes) -> Result<BroadcastResult, CallError> {
        self.pool.send(raw).await
    }

    /// For a transaction that is not included: the node that accepted it may have dropped it, or not propagated it.
    pub(crate) async fn send_to_all(&self, raw: &Bytes) -> Result<BroadcastResult, CallError> {
        self.pool.send_to_all(raw).await
    }

    pub(super) async fn estimate_gas(
        &self,
        from: Address,
        to: Option<Address>,
        data: &Bytes,
    ) -> Result<u64, CallError> {
        let mut call = serde_json::json!({ "from": from, "data": data });
        if let Some(to) = to {
            call["to"] = to.to_string().into();
        }
        let gas = self.pool.read("eth_estimateGas", (call,), |_: &Quantity| AnswerQuality::Accept).await?;
        Ok(gas.get().min(TRANSACTION_GAS_CAP))
    }

    pub(super) async fn view<C: SolCall>(&self, call: &C) -> Result<Option<C::Return>, CallError> {
        let call = self.call_request(None, None, &call.abi_encode().into());
        match self.execute_compared(call, prefer_nonempty_bytes).await {
            Ok(answer) => Ok(C::abi_decode_returns(&answer).ok()),
            Err(error) if error.is_revert() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn call(
        &self,
        from: Option<Address>,
        gas: Option<u64>,
        data: &Bytes,
        quality: impl Fn(&Bytes) -> AnswerQuality,
    ) -> Result<Bytes, CallError> {
        self.execute(&self.call_request(from, gas, data), quality).await
    }

    fn call_request(&self, from: Option<Address>, gas: Option<u64>, data: &Bytes) -> CallRequest {
        CallRequest { from, to: self.contract, gas: gas.map(U64::from), data: data.clone() }
    }

    /// At the head. A revert that may have consequences is compared with a second endpoint.
    async fn execute_compared(
        &self,
        call: CallRequest,
        quality: impl Fn(&Bytes) -> AnswerQuality,
    ) -> Result<Bytes, CallError> {
        match self.execute(&call, quality).await {
            Err(error) if error.is_revert() => self.compare_revert(call, error).await,
            answer => answer,
        }
    }

    /// At the head.
    async fn execute(&self, call: &CallRequest, quality: impl Fn(&Bytes) -> AnswerQuality) -> Result<Bytes, CallError> {
        self.pool.read("eth_call", (call.clone(), BlockTag::Latest.to_param()), quality).await
    }

    fn undecodable_answer_error(&self, answer: &Bytes) -> CallError {
        self.primary_error(
            "eth_call",
            if answer.is_empty() { EndpointFault::NoContract } else { EndpointFault::Unreadable },
        )
    }

    /// No endpoint had a better answer; the error names the preferred one.
    fn primary_error(&self, method: &'static str, fault: EndpointFault) -> CallError {
        CallError::unavailable(self.pool.primary(), method, fault)
    }
}

/// A call to an address without code succeeds with empty data.
pub(super) fn prefer_nonempty_bytes(answer: &Bytes) -> AnswerQuality {
    prefer_nonempty(!answer.is_empty())
}

/// Another endpoint may know more than one that returned nothing.
pub(super) fn prefer_nonempty(has_content: bool) -> AnswerQuality {
    if has_content { AnswerQuality::Accept } else { AnswerQuality::TryNext }
}

//! Registrations that are on chain already: the contract's records, and the events that made them.

use super::{
    BlockTag, CallError, Chain,
    client::{OnChainRecord, RegistrationEvent, prefer_nonempty},
    contract::{self, DocumentRegistry},
    pool::Silence,
    rpc_types::{CallRequest, LogFilter, RpcLog},
};
use crate::registration::Pair;
use alloy::{primitives::Bytes, sol_types::SolCall};

impl Chain {
    /// Whether two endpoints have this record at their heads, where there are two.
    pub(crate) async fn is_recorded_by_quorum(&self, pair: &Pair, record: OnChainRecord) -> bool {
        let data = contract::records_calldata(std::slice::from_ref(pair));
        let call = CallRequest { from: None, to: self.contract(), gas: None, data };
        let ask = |position| {
            let params = (call.clone(), BlockTag::Latest.to_param());
            async move {
                let answer: Result<Bytes, _> = self.pool.call(position, "eth_call", params, 1).await;
                let records =
                    DocumentRegistry::recordsOfCall::abi_decode_returns(&answer.map_err(|e| Silence::from(&e))?);
                let found = records.map_err(|_| Silence::Unanswered)?;
                Ok(found.first().is_some_and(|found| {
                    (found.registrar, found.blockNumber.to::<u64>()) == (record.registrar, record.block_number)
                }))
            }
        };
        self.pool.ask_quorum(ask).await.is_unanimous(|is_recorded| *is_recorded)
    }

    /// By the event in the record's block; `None` when the node does not have it (yet, or any more).
    pub(crate) async fn find_registration(
        &self,
        pair: &Pair,
        record: OnChainRecord,
    ) -> Result<Option<RegistrationEvent>, CallError> {
        let filter = self.registration_filter(pair, record.block_number);
        let logs = self.pool.read("eth_getLogs", (filter,), |logs: &Vec<RpcLog>| prefer_nonempty(!logs.is_empty()));
        let (logs, header) = tokio::try_join!(logs, self.header(BlockTag::Number(record.block_number)))?;
        let event = logs.into_iter().find_map(|log| Some((log.transaction_hash?, log.block_hash?)));
        Ok(event.zip(header).filter(|((_, block_hash), header)| *block_hash == header.block.hash).map(
            |((transaction, _), header)| RegistrationEvent {
                registrar: record.registrar,
                transaction,
                block: header.block,
            },
        ))
    }

    /// Whether two endpoints have this event in this block, where there are two.
    pub(crate) async fn is_registered_by_quorum(&self, pair: &Pair, event: &RegistrationEvent) -> bool {
        let filter = self.registration_filter(pair, event.block.number);
        let is_event = |log: &RpcLog| {
            log.transaction_hash == Some(event.transaction)
                && log.block_hash == Some(event.block.hash)
                && log.topics.get(3) == Some(&event.registrar.into_word())
        };
        let ask = |position| {
            let filter = filter.clone();
            async move {
                let logs: Result<Vec<RpcLog>, _> = self.pool.call(position, "eth_getLogs", (filter,), 1).await;
                logs.map(|logs| logs.iter().any(is_event)).map_err(|error| Silence::from(&error))
            }
        };
        self.pool.ask_quorum(ask).await.is_unanimous(|is_registered| *is_registered)
    }

    fn registration_filter(&self, pair: &Pair, number: u64) -> LogFilter {
        let number = BlockTag::Number(number).to_param();
        LogFilter {
            from_block: number.clone(),
            to_block: number,
            address: self.contract(),
            topics: contract::registration_topics(pair).map(Some).to_vec(),
        }
    }
}

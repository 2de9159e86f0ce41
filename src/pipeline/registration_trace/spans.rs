//! A journey as its spans tell it: one episode of it, from what the journey remembers.

use super::{RegistrationTrace, TxContext};
use crate::{
    registration::{Block, Cause, SpanId, Timestamp},
    telemetry::{
        self,
        spans::{self, AttrValue, SpanLink, SpanRecord, SpanTree},
    },
};
use alloy::primitives::B256;

/// How an episode ended.
pub(super) struct EpisodeEnd<'a> {
    pub(super) at: Timestamp,
    pub(super) status: &'static str,
    pub(super) cause: Option<Cause>,
    /// The block that holds it, and how deep that is.
    pub(super) block: Option<(&'a Block, u64)>,
    /// The version that the block holds.
    pub(super) hash: Option<B256>,
}

impl RegistrationTrace {
    /// What is told of it at this end; `wait` is the span of its waiting.
    pub(super) fn span_tree(&self, end: &EpisodeEnd<'_>, wait: SpanId) -> SpanTree {
        let member = &self.member;
        let first = self.span_id();
        let (id, began) = match self.reported_until {
            None => (first, member.created_at),
            Some(told_until) => (spans::new_span_id(), told_until),
        };
        let mut data: Vec<(&'static str, AttrValue)> = vec![
            ("registrationId", member.id.to_string().into()),
            ("documentHash", member.pair.document_hash.to_string().into()),
            ("caseId", member.pair.case_id.as_str().into()),
            ("network", self.chain_info.network.name.as_str().into()),
            ("contractAddress", self.chain_info.contract.to_string().into()),
        ];
        data.extend(member.user_id.as_ref().map(|user| ("user.id", telemetry::exported_user_id(user).into())));
        let hash = end.hash.or(self.tx.as_ref().map(|carried| carried.tx.hash));
        data.extend(hash.map(|hash| ("txHash", hash.to_string().into())));
        data.extend(end.block.map(|(block, _)| ("blockNumber", block.number.into())));
        data.extend(end.cause.map(|cause| ("cause", cause.code().into())));
        data.extend(self.resumed.then_some(("resumed", true.into())));
        let root = SpanRecord {
            op: "blockchain.register",
            name: "Register Document on Blockchain".to_owned(),
            id,
            began,
            ended: end.at,
            status: end.status,
            attributes: data,
        };
        SpanTree { root, children: self.child_spans(end, wait), links: self.links(first) }
    }

    fn links(&self, first: SpanId) -> Vec<SpanLink> {
        let (trace_id, sampled) = (self.member.trace.trace_id, self.member.trace.sampled.unwrap_or(false));
        let earlier = self.reported_until.map(|_| SpanLink { trace_id, span_id: first, kind: "earlier", sampled });
        let request = self.member.trace.parent.filter(|_| self.resumed);
        let request = request.map(|span_id| SpanLink { trace_id, span_id, kind: "request", sampled });
        let batch = self.tx.as_ref().and_then(|carried| carried.batch);
        let batch = batch.map(|(trace_id, span_id)| SpanLink { trace_id, span_id, kind: "batch", sampled });
        earlier.into_iter().chain(request).chain(batch).collect()
    }

    fn child_spans(&self, end: &EpisodeEnd<'_>, wait: SpanId) -> Vec<SpanRecord> {
        let Some(carried) = &self.tx else { return vec![self.prepare_span(end.at, end.status)] };
        // What an earlier episode has told is not told again.
        if self.reported_until.is_some() {
            return vec![self.wait_span(carried, end, wait)];
        }
        let mut stages = vec![self.prepare_span(carried.tx.signed_at, "ok")];
        stages.push(self.send_span(
            carried,
            self.submitted_at.unwrap_or(end.at),
            if self.submitted_at.is_some() { "ok" } else { end.status },
        ));
        stages.extend(self.submitted_at.map(|_| self.wait_span(carried, end, wait)));
        stages
    }

    fn prepare_span(&self, ended: Timestamp, status: &'static str) -> SpanRecord {
        let data = self.tx.as_ref().map_or_else(Vec::new, |carried| {
            vec![
                ("nonce", carried.tx.nonce.into()),
                ("from", carried.tx.from.to_string().into()),
                ("batchSize", carried.tx.batch_size.into()),
                ("gasLimit", carried.tx.gas_limit.into()),
                ("maxFeePerGas", carried.tx.fees.max_fee_per_gas.into()),
                ("maxPriorityFeePerGas", carried.tx.fees.max_priority_fee_per_gas.into()),
            ]
        });
        let name = "Prepare Transaction Data".to_owned();
        SpanRecord {
            op: "blockchain.prepare",
            name,
            id: spans::new_span_id(),
            began: self.prepare_started_at,
            ended,
            status,
            attributes: data,
        }
    }

    fn send_span(&self, carried: &TxContext, ended: Timestamp, status: &'static str) -> SpanRecord {
        let data = vec![
            ("txHash", carried.tx.hash.to_string().into()),
            ("gasLimit", carried.tx.gas_limit.into()),
            ("endpoint", (&*carried.endpoint).into()),
            ("attempt", carried.tx.attempt.into()),
        ];
        let name = format!("Submit Transaction to {}", self.chain_info.network.title);
        SpanRecord {
            op: "blockchain.send",
            name,
            id: spans::new_span_id(),
            began: carried.tx.signed_at,
            ended,
            status,
            attributes: data,
        }
    }

    fn wait_span(&self, carried: &TxContext, end: &EpisodeEnd<'_>, id: SpanId) -> SpanRecord {
        let mut data: Vec<(&'static str, AttrValue)> =
            vec![("txHash", end.hash.unwrap_or(carried.tx.hash).to_string().into())];
        if let Some((block, confirmations)) = end.block {
            data.push(("blockNumber", block.number.into()));
            data.push(("confirmations", confirmations.into()));
        }
        data.extend(self.included.map(|(_, gas_used)| ("gasUsed", gas_used.into())));
        data.extend(end.cause.map(|cause| ("cause", cause.code().into())));
        let began = self.reported_until.or(self.submitted_at).unwrap_or(carried.tx.signed_at);
        let name = "Wait for Transaction Confirmation".to_owned();
        SpanRecord { op: "blockchain.wait", name, id, began, ended: end.at, status: end.status, attributes: data }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ChainInfo, TxSummary, registration_span_id},
        *,
    };
    use crate::{
        chain::Network,
        registration::{Cost, DocumentHash, Pair, RegistrationId, UserId, policy::fees::Fees},
        store::BatchMember,
        telemetry::propagation,
    };
    use alloy::primitives::Address;
    use std::sync::Arc;

    /// What a span should hold: op, name, from and to in seconds, status, and some of the data.
    type Expected<'a> = (&'a str, &'a str, (u64, u64), &'a str, &'a [(&'a str, AttrValue)]);

    fn member() -> BatchMember {
        BatchMember {
            id: RegistrationId::from_bytes([7; 16]),
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() },
            user_id: UserId::parse_optional("user-1").unwrap(),
            trace: propagation::extract(&http::HeaderMap::new()),
            created_at: at(1),
            reverts: 0,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn sent() -> RegistrationTrace {
        let route = ChainInfo { network: Arc::new(Network::from_chain_id(84532)), contract: Address::repeat_byte(3) };
        let fees = Fees { max_fee_per_gas: 40, max_priority_fee_per_gas: 2 };
        let from = Address::repeat_byte(4);
        let hash = B256::repeat_byte(9);
        let vehicle =
            TxSummary { from, nonce: 5, batch_size: 6, gas_limit: 70, hash, fees, attempt: 1, signed_at: at(3) };
        let mut journey = RegistrationTrace::new(member(), &Arc::new(route), at(2));
        journey.on_signed(vehicle, &Arc::from("base.example"), None);
        journey.on_submitted(at(4));
        journey
    }

    fn block() -> Block {
        Block { number: 8, hash: B256::repeat_byte(8), time: at(5) }
    }

    fn story_of(journey: &RegistrationTrace, seconds: u64, status: &'static str, cause: Option<Cause>) -> SpanTree {
        let block = block();
        let block = cause.is_none().then_some((&block, 2));
        let end = EpisodeEnd { at: at(seconds), status, cause, block, hash: None };
        journey.span_tree(&end, spans::new_span_id())
    }

    fn check(stage: &SpanRecord, (op, name, (from, to), status, data): Expected<'_>) {
        assert_eq!((stage.op, stage.name.as_str(), stage.status), (op, name, status));
        assert_eq!((stage.began, stage.ended), (at(from), at(to)), "{op}");
        for (key, value) in data {
            let found = stage.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value);
            assert_eq!(found, Some(value), "{op} {key}");
        }
    }

    #[test]
    fn a_journey_is_prepare_send_and_wait_under_one_span_with_the_data_people_search_by() {
        let mut journey = sent();
        journey.on_included(&block(), &Cost { gas_used: 60, effective_gas_price: 3, l1_fee: None });
        let story = story_of(&journey, 6, "ok", None);
        let hash = AttrValue::from(B256::repeat_byte(9).to_string());
        check(
            &story.root,
            (
                "blockchain.register",
                "Register Document on Blockchain",
                (1, 6),
                "ok",
                &[
                    ("caseId", "case-1".into()),
                    ("network", "base-sepolia".into()),
                    ("user.id", "user-1".into()),
                    ("txHash", hash.clone()),
                    ("blockNumber", 8_u64.into()),
                ],
            ),
        );
        let [prepare, send, wait] = story.children.as_slice() else { panic!("{story:?}") };
        let numbers = |all: [(&'static str, u64); 5]| all.map(|(key, number)| (key, AttrValue::from(number)));
        let prepared = numbers([
            ("nonce", 5),
            ("batchSize", 6),
            ("gasLimit", 70),
            ("maxFeePerGas", 40),
            ("maxPriorityFeePerGas", 2),
        ]);
        check(prepare, ("blockchain.prepare", "Prepare Transaction Data", (2, 3), "ok", &prepared));
        let sent: [(&str, AttrValue); 3] =
            [("txHash", hash.clone()), ("endpoint", "base.example".into()), ("attempt", 1_u64.into())];
        check(send, ("blockchain.send", "Submit Transaction to Base Sepolia", (3, 4), "ok", &sent));
        let waited: [(&str, AttrValue); 4] = [
            ("txHash", hash),
            ("blockNumber", 8_u64.into()),
            ("gasUsed", 60_u64.into()),
            ("confirmations", 2_u64.into()),
        ];
        check(wait, ("blockchain.wait", "Wait for Transaction Confirmation", (4, 6), "ok", &waited));
        assert!(story.links.is_empty());
    }

    #[test]
    fn a_journey_has_the_same_span_after_a_restart_and_another_one_with_another_transaction() {
        let id = RegistrationId::from_bytes([7; 16]);
        let (signer, other) = (Address::repeat_byte(4), Address::repeat_byte(5));
        assert_eq!(registration_span_id(id, signer, 5), registration_span_id(id, signer, 5));
        for (from, nonce) in [(signer, 6), (other, 5)] {
            assert_ne!(registration_span_id(id, signer, 5), registration_span_id(id, from, nonce));
        }
        // A caller may register many documents in one trace.
        assert_ne!(
            registration_span_id(id, signer, 5),
            registration_span_id(RegistrationId::from_bytes([8; 16]), signer, 5)
        );
    }

    #[test]
    fn a_timeout_is_told_at_once_and_what_comes_later_is_linked_to_it() {
        let mut journey = sent();
        let first = story_of(&journey, 34, "deadline_exceeded", Some(Cause::Pending));
        assert_eq!(first.root.id, journey.span_id());
        assert_eq!(first.children.len(), 3);
        let cause: [(&str, AttrValue); 1] = [("cause", "pending".into())];
        let wait = "Wait for Transaction Confirmation";
        check(&first.children[2], ("blockchain.wait", wait, (4, 34), "deadline_exceeded", &cause));
        journey.on_timeout(Cause::Pending, 0, at(34));
        let later = story_of(&journey, 50, "ok", None);
        assert_ne!(later.root.id, first.root.id);
        let [only] = later.children.as_slice() else { panic!("{later:?}") };
        check(only, ("blockchain.wait", wait, (34, 50), "ok", &[]));
        let trace_id = journey.member.trace.trace_id;
        assert_eq!(later.links, [SpanLink { trace_id, span_id: first.root.id, kind: "earlier", sampled: false }]);
    }

    #[test]
    fn what_fails_in_prepare_has_no_other_stage() {
        let journey = RegistrationTrace::new(member(), &sent().chain_info, at(2));
        let story = story_of(&journey, 3, "failed_precondition", Some(Cause::Reverted));
        let [prepare] = story.children.as_slice() else { panic!("{story:?}") };
        let name = "Prepare Transaction Data";
        check(prepare, ("blockchain.prepare", name, (2, 3), "failed_precondition", &[]));
    }
}

//! The spans of one episode of a [`RegistrationTrace`].

use super::{EndKind, EpisodeEnd, RegistrationTrace, TxContext, delay_span_id};
use crate::{
    registration::{SpanId, Timestamp},
    telemetry::{
        self,
        spans::{self, AttrValue, SpanLink, SpanRecord, SpanTree},
    },
};

impl RegistrationTrace {
    pub(super) fn span_tree(&self, end: &EpisodeEnd<'_>, late_id: SpanId) -> SpanTree {
        let member = &self.member;
        let first_root_id = self.span_id();
        let (id, began) = match (end.kind, self.reported_until) {
            (EndKind::Delayed, _) => (delay_span_id(member.id, member.queued_at), member.created_at),
            (EndKind::Other, None) => (first_root_id, member.delayed_at.unwrap_or(member.created_at)),
            (EndKind::Other, Some(reported_until)) => (spans::new_span_id(), reported_until),
        };
        let mut attributes: Vec<(&'static str, AttrValue)> = vec![
            ("registrationId", member.id.to_string().into()),
            ("documentHash", member.pair.document_hash.to_string().into()),
            ("caseId", member.pair.case_id.as_str().into()),
            ("network", self.chain_info.network.name.as_str().into()),
            ("contractAddress", self.chain_info.contract.to_string().into()),
        ];
        attributes.extend(member.user_id.as_ref().map(|user| ("user.id", telemetry::exported_user_id(user).into())));
        attributes.extend(member.caller.as_ref().map(|caller| ("caller", caller.as_str().into())));
        let hash = end.hash.or(self.tx.as_ref().map(|context| context.tx.hash));
        attributes.extend(hash.map(|hash| ("txHash", hash.to_string().into())));
        attributes.extend(end.block.map(|(block, _)| ("blockNumber", block.number.into())));
        attributes.extend(end.cause.map(|cause| ("cause", cause.code().into())));
        attributes.extend(self.resumed.then_some(("resumed", true.into())));
        let root = SpanRecord {
            op: "blockchain.register",
            name: "Register Document on Blockchain".to_owned(),
            id,
            began,
            ended: end.at,
            status: end.status,
            attributes,
        };
        SpanTree { root, children: self.child_spans(end, late_id), links: self.links(first_root_id) }
    }

    fn links(&self, first_root_id: SpanId) -> Vec<SpanLink> {
        let (trace_id, sampled) = (self.member.trace.trace_id, self.member.trace.sampled.unwrap_or(false));
        let delay = self.member.delayed_at.map(|_| delay_span_id(self.member.id, self.member.queued_at));
        let earlier = self.reported_until.map(|_| first_root_id).or(delay);
        let earlier = earlier.map(|span_id| SpanLink { trace_id, span_id, kind: "earlier", sampled });
        let request = self.member.trace.parent.filter(|_| self.resumed);
        let request = request.map(|span_id| SpanLink { trace_id, span_id, kind: "request", sampled });
        let batch = self.tx.as_ref().and_then(|context| context.batch);
        let batch = batch.map(|(trace_id, span_id)| SpanLink { trace_id, span_id, kind: "batch", sampled });
        earlier.into_iter().chain(request).chain(batch).collect()
    }

    fn child_spans(&self, end: &EpisodeEnd<'_>, late_id: SpanId) -> Vec<SpanRecord> {
        let Some(context) = &self.tx else { return vec![self.prepare_span(late_id, end.at, end.status)] };
        // An earlier episode has the other spans.
        if self.reported_until.is_some() {
            return vec![self.wait_span(context, end, late_id)];
        }
        let signed_at = context.tx.signed_at;
        let in_this_episode = self.member.delayed_at.is_none_or(|delayed_at| signed_at > delayed_at);
        let mut stages =
            Vec::from_iter(in_this_episode.then(|| self.prepare_span(spans::new_span_id(), signed_at, "ok")));
        match self.submitted_at {
            Some(submitted_at) => {
                stages.push(self.send_span(context, spans::new_span_id(), submitted_at, "ok"));
                stages.push(self.wait_span(context, end, late_id));
            }
            None => stages.push(self.send_span(context, late_id, end.at, end.status)),
        }
        stages
    }

    /// What a report of the queue timeout covers is not covered again.
    fn after_delay(&self, began: Timestamp) -> Timestamp {
        self.member.delayed_at.map_or(began, |delayed_at| began.max(delayed_at))
    }

    fn prepare_span(&self, id: SpanId, ended: Timestamp, status: &'static str) -> SpanRecord {
        let attributes = self.tx.as_ref().map_or_else(Vec::new, |context| {
            vec![
                ("nonce", context.tx.nonce.into()),
                ("from", context.tx.from.to_string().into()),
                ("batchSize", context.tx.batch_size.into()),
                ("gasLimit", context.tx.gas_limit.into()),
                ("maxFeePerGas", context.tx.fees.max_fee_per_gas.into()),
                ("maxPriorityFeePerGas", context.tx.fees.max_priority_fee_per_gas.into()),
            ]
        });
        let name = "Prepare Transaction Data".to_owned();
        SpanRecord {
            op: "blockchain.prepare",
            name,
            id,
            began: self.after_delay(self.prepare_started_at),
            ended,
            status,
            attributes,
        }
    }

    fn send_span(&self, context: &TxContext, id: SpanId, ended: Timestamp, status: &'static str) -> SpanRecord {
        let attributes = vec![
            ("txHash", context.tx.hash.to_string().into()),
            ("gasLimit", context.tx.gas_limit.into()),
            ("endpoint", (&*context.endpoint).into()),
            ("attempt", context.tx.attempt.into()),
        ];
        let name = format!("Submit Transaction to {}", self.chain_info.network.title);
        SpanRecord {
            op: "blockchain.send",
            name,
            id,
            began: self.after_delay(context.tx.signed_at),
            ended,
            status,
            attributes,
        }
    }

    fn wait_span(&self, context: &TxContext, end: &EpisodeEnd<'_>, id: SpanId) -> SpanRecord {
        let mut attributes: Vec<(&'static str, AttrValue)> =
            vec![("txHash", end.hash.unwrap_or(context.tx.hash).to_string().into())];
        if let Some((block, confirmations)) = end.block {
            attributes.push(("blockNumber", block.number.into()));
            attributes.push(("confirmations", confirmations.into()));
        }
        attributes.extend(self.included.map(|(_, gas_used)| ("gasUsed", gas_used.into())));
        attributes.extend(end.cause.map(|cause| ("cause", cause.code().into())));
        let began = self.reported_until.or(self.submitted_at).unwrap_or(context.tx.signed_at);
        let name = "Wait for Transaction Confirmation".to_owned();
        SpanRecord { op: "blockchain.wait", name, id, began, ended: end.at, status: end.status, attributes }
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
        registration::{Block, Cause, Cost, DocumentHash, Pair, RegistrationId, UserId, policy::fees::Fees},
        store::BatchMember,
        telemetry::propagation,
    };
    use alloy::primitives::{Address, B256};
    use std::sync::Arc;

    /// Op, name, start and end in seconds, status, and some of the attributes.
    type Expected<'a> = (&'a str, &'a str, (u64, u64), &'a str, &'a [(&'a str, AttrValue)]);

    fn member() -> BatchMember {
        BatchMember {
            id: RegistrationId::from_bytes([7; 16]),
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() },
            user_id: UserId::parse_optional("user-1").unwrap(),
            caller: "caller-1".parse().ok(),
            trace: propagation::extract(&http::HeaderMap::new()),
            created_at: at(1),
            reverts: 0,
            queued_at: at(1),
            delayed_at: None,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn submitted() -> RegistrationTrace {
        let chain_info =
            ChainInfo { network: Arc::new(Network::from_chain_id(84532)), contract: Address::repeat_byte(3) };
        let fees = Fees { max_fee_per_gas: 40, max_priority_fee_per_gas: 2 };
        let from = Address::repeat_byte(4);
        let hash = B256::repeat_byte(9);
        let tx = TxSummary { from, nonce: 5, batch_size: 6, gas_limit: 70, hash, fees, attempt: 1, signed_at: at(3) };
        let mut trace = RegistrationTrace::new(member(), &Arc::new(chain_info), at(2));
        trace.on_signed(tx, &Arc::from("base.example"), None);
        trace.on_submitted(at(4));
        trace
    }

    fn block() -> Block {
        Block { number: 8, hash: B256::repeat_byte(8), time: at(5) }
    }

    fn episode(trace: &RegistrationTrace, seconds: u64, status: &'static str, cause: Option<Cause>) -> SpanTree {
        let block = block();
        let block = cause.is_none().then_some((&block, 2));
        let end = EpisodeEnd { at: at(seconds), status, cause, block, hash: None, kind: EndKind::Other };
        trace.span_tree(&end, spans::new_span_id())
    }

    fn check(span: &SpanRecord, (op, name, (from, to), status, attributes): Expected<'_>) {
        assert_eq!((span.op, span.name.as_str(), span.status), (op, name, status));
        assert_eq!((span.began, span.ended), (at(from), at(to)), "{op}");
        for (key, value) in attributes {
            let found = span.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value);
            assert_eq!(found, Some(value), "{op} {key}");
        }
    }

    #[test]
    fn a_registration_is_prepare_send_and_wait_under_one_span_with_searchable_attributes() {
        let mut trace = submitted();
        trace.on_included(&block(), &Cost { gas_used: 60, effective_gas_price: 3, l1_fee: None });
        let tree = episode(&trace, 6, "ok", None);
        let hash = AttrValue::from(B256::repeat_byte(9).to_string());
        check(
            &tree.root,
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
        let [prepare, send, wait] = tree.children.as_slice() else { panic!("{tree:?}") };
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
        assert!(tree.links.is_empty());
    }

    #[test]
    fn the_root_span_id_survives_a_restart_and_differs_for_each_transaction() {
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
    fn a_timeout_emits_its_spans_at_once_and_later_spans_are_linked_to_them() {
        let mut trace = submitted();
        let first = episode(&trace, 34, "deadline_exceeded", Some(Cause::Pending));
        assert_eq!(first.root.id, trace.span_id());
        assert_eq!(first.children.len(), 3);
        let cause: [(&str, AttrValue); 1] = [("cause", "pending".into())];
        let wait = "Wait for Transaction Confirmation";
        check(&first.children[2], ("blockchain.wait", wait, (4, 34), "deadline_exceeded", &cause));
        trace.on_timeout(Cause::Pending, 0, at(34));
        let later = episode(&trace, 50, "ok", None);
        assert_ne!(later.root.id, first.root.id);
        let [only] = later.children.as_slice() else { panic!("{later:?}") };
        check(only, ("blockchain.wait", wait, (34, 50), "ok", &[]));
        let trace_id = trace.member.trace.trace_id;
        assert_eq!(later.links, [SpanLink { trace_id, span_id: first.root.id, kind: "earlier", sampled: false }]);
    }

    #[test]
    fn a_delay_emits_prepare_so_far_and_the_spans_after_it_follow_under_a_linked_root() {
        let chain_info = submitted().chain_info;
        let delayed = |trace: &RegistrationTrace, seconds| {
            let (status, cause, kind) = ("deadline_exceeded", Some(Cause::InsufficientFunds), EndKind::Delayed);
            trace.span_tree(
                &EpisodeEnd { at: at(seconds), status, cause, block: None, hash: None, kind },
                spans::new_span_id(),
            )
        };
        let mut queued = RegistrationTrace::new(member(), &chain_info, at(1));
        let first = delayed(&queued, 61);
        let cause: [(&str, AttrValue); 1] = [("cause", "insufficient_funds".into())];
        check(
            &first.root,
            ("blockchain.register", "Register Document on Blockchain", (1, 61), "deadline_exceeded", &cause),
        );
        let [prepare] = first.children.as_slice() else { panic!("{first:?}") };
        check(prepare, ("blockchain.prepare", "Prepare Transaction Data", (1, 61), "deadline_exceeded", &[]));
        queued.on_delayed(Cause::InsufficientFunds, at(61));

        let mut sent = submitted();
        sent.member.delayed_at = Some(at(3));
        let later = episode(&sent, 70, "ok", None);
        assert_eq!((later.root.began, later.root.id), (at(3), sent.span_id()));
        let [send, wait] = later.children.as_slice() else { panic!("{later:?}") };
        assert_eq!((send.op, send.began, wait.op, wait.began), ("blockchain.send", at(3), "blockchain.wait", at(4)));
        let trace_id = sent.member.trace.trace_id;
        assert_eq!(later.links, [SpanLink { trace_id, span_id: first.root.id, kind: "earlier", sampled: false }]);
    }

    #[test]
    fn a_failure_in_prepare_has_no_send_or_wait_span() {
        let trace = RegistrationTrace::new(member(), &submitted().chain_info, at(2));
        let tree = episode(&trace, 3, "failed_precondition", Some(Cause::Reverted));
        let [prepare] = tree.children.as_slice() else { panic!("{tree:?}") };
        let name = "Prepare Transaction Data";
        check(prepare, ("blockchain.prepare", name, (2, 3), "failed_precondition", &[]));
    }
}

//! A transaction that nothing is wrong with, and what can be wrong with one, to be put together.

use crate::registration::{RegistrationId, Timestamp, diagnosis::*, policy::fees::Fees};
use alloy::primitives::{Address, B256, U256};
use std::time::Duration;

pub(super) const GWEI: u128 = 1_000_000_000;
pub(super) const SIGNER: Address = Address::repeat_byte(0xaa);
pub(super) const GAS_LIMIT: u64 = 52_000;
pub(super) const SUBMITTED_AT_SECONDS: u64 = 1_000;

/// As long as a host may be, so that the longest explanation is seen too.
pub(super) const ENDPOINT_A: &str = "first-and-by-far-the-longest-name-of-an-endpoint.example.com";
pub(super) const ENDPOINT_B: &str = "second-and-nearly-the-longest-name-of-an-endpoint.example.com";

pub(super) fn endpoint(name: &str, state: &'static str) -> EndpointSnapshot {
    let error = (state == "down").then(|| "timed out".to_owned());
    EndpointSnapshot { name: name.into(), state, head: Some(120), lag: None, latency: None, error }
}

pub(super) fn from_both_endpoints<T: Clone>(what: T) -> Vec<EndpointAnswer<T>> {
    [ENDPOINT_A, ENDPOINT_B].map(|name| EndpointAnswer { endpoint: name.into(), value: what.clone() }).into()
}

pub(super) fn rejection(meaning: RejectKind) -> NodeRejection {
    let words = "a node's words, which may be rather long and are cut where it is too much to read".to_owned();
    NodeRejection {
        endpoint: ENDPOINT_A.into(),
        code: -32003,
        message: words,
        kind: meaning,
        at: Timestamp::from_seconds(SUBMITTED_AT_SECONDS + 28),
    }
}

pub(super) fn receipt(succeeded: bool) -> ReceiptSnapshot {
    ReceiptSnapshot { block: 120, block_hash: B256::repeat_byte(1), succeeded, gas_used: 30_000 }
}

pub(super) fn evidence_for(subject: Subject) -> Evidence {
    Evidence {
        now: Timestamp::from_seconds(SUBMITTED_AT_SECONDS + 31),
        submitted_at: Some(Timestamp::from_seconds(SUBMITTED_AT_SECONDS)),
        confirmations_required: 2,
        chain: ChainSnapshot {
            usable: vec![endpoint(ENDPOINT_A, "healthy"), endpoint(ENDPOINT_B, "healthy")],
            unusable: vec![],
            stalled: None,
            head: Some(HeadSnapshot { number: 120, gas_limit: 30_000_000, base_fee: GWEI, age: Duration::ZERO }),
            mines_on_demand: false,
        },
        subject,
    }
}

/// A transaction that two nodes know and nothing is wrong with.
pub(super) fn pending_tx() -> SubmittedTx {
    let blocks = vec![BlockFullness { free_gas: 1_000_000, p10_tip: 1 }; 10];
    SubmittedTx {
        signer: SIGNER,
        nonce: 7,
        gas_limit: GAS_LIMIT,
        fees: Fees { max_fee_per_gas: 8 * GWEI, max_priority_fee_per_gas: GWEI / 1000 },
        accepted_by: Some(ENDPOINT_A.into()),
        earlier_tx: None,
        reorged_out_of_block: None,
        last_rejection: None,
        nonce_consumed_for: None,
        last_seen_nonce: None,
        in_flight: 1,
        answers: RpcAnswers {
            receipts: from_both_endpoints(None),
            tx_known: from_both_endpoints(true),
            nonces: from_both_endpoints(7),
            balance: Some(U256::from(10).pow(U256::from(18))),
            fees: Some(FeeSnapshot { next_base_fee: GWEI, blocks }),
            ..RpcAnswers::default()
        },
    }
}

pub(super) fn earlier_tx() -> EarlierTx {
    let registration = Some(RegistrationId::from_bytes([5; 16]));
    EarlierTx { nonce: 4, hash: B256::repeat_byte(4), registration_id: registration }
}

pub(super) fn stall(seen: &mut Evidence) {
    seen.chain.stalled = Some(StallSnapshot { head: 120, duration: Duration::from_secs(29) });
}

pub(super) fn unknown_to_nodes(sent: &mut SubmittedTx) {
    sent.answers.tx_known = from_both_endpoints(false);
}
pub(super) fn rejected_as(meaning: RejectKind) -> impl Fn(&mut SubmittedTx) {
    move |sent| (sent.answers.tx_known, sent.last_rejection) = (from_both_endpoints(false), Some(rejection(meaning)))
}
pub(super) fn balance_too_low(sent: &mut SubmittedTx) {
    sent.answers.balance = Some(U256::from(GAS_LIMIT) * U256::from(8 * GWEI) - U256::from(1));
}
pub(super) fn gas_above_block_limit(sent: &mut SubmittedTx) {
    (sent.gas_limit, sent.answers.balance) = (40_000_000, None);
}
pub(super) fn below_base_fee(sent: &mut SubmittedTx) {
    sent.answers.fees.as_mut().unwrap().next_base_fee = 8 * GWEI + 1;
}
pub(super) fn congested_blocks(sent: &mut SubmittedTx) {
    let blocks = &mut sent.answers.fees.as_mut().unwrap().blocks;
    blocks[4..].fill(BlockFullness { free_gas: GAS_LIMIT - 1, p10_tip: GWEI / 100 });
}
pub(super) fn nonce_consumed(sent: &mut SubmittedTx) {
    (sent.answers.nonces, sent.nonce_consumed_for) = (from_both_endpoints(8), Some(Duration::from_secs(3)));
}
pub(super) fn nonce_gap(sent: &mut SubmittedTx) {
    sent.answers.nonces = from_both_endpoints(5);
}
pub(super) fn reorged(sent: &mut SubmittedTx) {
    sent.reorged_out_of_block = Some(118);
}
pub(super) fn included(sent: &mut SubmittedTx) {
    sent.answers.receipts = from_both_endpoints(Some(receipt(true)));
}
pub(super) fn failed(sent: &mut SubmittedTx) {
    sent.answers.receipts = from_both_endpoints(Some(receipt(false)));
}
pub(super) fn behind_earlier_nonce(sent: &mut SubmittedTx) {
    sent.earlier_tx = Some(earlier_tx());
}

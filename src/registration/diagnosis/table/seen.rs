//! A transaction that nothing is wrong with, and what can be wrong with one, to be put together.

use crate::registration::{RegistrationId, Timestamp, diagnosis::*, policy::fees::Fees};
use alloy::primitives::{Address, B256, U256};
use std::time::Duration;

pub(super) const GWEI: u128 = 1_000_000_000;
pub(super) const SIGNER: Address = Address::repeat_byte(0xaa);
pub(super) const GAS: u64 = 52_000;
pub(super) const SUBMITTED: u64 = 1_000;

/// As long as a host may be, so that the longest explanation is seen too.
pub(super) const A: &str = "first-and-by-far-the-longest-name-of-an-endpoint.example.com";
pub(super) const B: &str = "second-and-nearly-the-longest-name-of-an-endpoint.example.com";

pub(super) fn endpoint(name: &str, state: &'static str) -> EndpointSeen {
    let error = (state == "down").then(|| "timed out".to_owned());
    EndpointSeen { name: name.into(), state, head: Some(120), lag: None, latency: None, error }
}

pub(super) fn says<T: Clone>(what: T) -> Vec<Witnessed<T>> {
    [A, B].map(|name| Witnessed { endpoint: name.into(), says: what.clone() }).into()
}

pub(super) fn refused(meaning: Meaning) -> Refused {
    let words = "a node's words, which may be rather long and are cut where it is too much to read".to_owned();
    Refused { endpoint: A.into(), code: -32003, words, meaning, at: Timestamp::from_seconds(SUBMITTED + 28) }
}

pub(super) fn receipt(succeeded: bool) -> ReceiptSeen {
    ReceiptSeen { block: 120, block_hash: B256::repeat_byte(1), succeeded, gas_used: 30_000 }
}

pub(super) fn looked_at(subject: Subject) -> Evidence {
    Evidence {
        now: Timestamp::from_seconds(SUBMITTED + 31),
        submitted: Some(Timestamp::from_seconds(SUBMITTED)),
        confirmations_required: 2,
        chain: ChainSeen {
            usable: vec![endpoint(A, "healthy"), endpoint(B, "healthy")],
            unusable: vec![],
            stalled: None,
            head: Some(HeadSeen { number: 120, gas_limit: 30_000_000, base_fee: GWEI, still: Duration::ZERO }),
            mines_on_demand: false,
        },
        subject,
    }
}

/// A transaction that two nodes know and nothing is wrong with.
pub(super) fn sent() -> Sent {
    let blocks = vec![BlockSeen { room: 1_000_000, low_tip: 1 }; 10];
    Sent {
        signer: SIGNER,
        nonce: 7,
        hash: B256::repeat_byte(7),
        gas_limit: GAS,
        fees: Fees { max_fee_per_gas: 8 * GWEI, max_priority_fee_per_gas: GWEI / 1000 },
        taken_by: Some(A.into()),
        earlier: None,
        reorged_out: None,
        refusal: None,
        missing_for: None,
        seen_nonce: None,
        in_flight: 1,
        answers: Answers {
            receipts: says(None),
            known: says(true),
            nonces: says(7),
            balance: Some(U256::from(10).pow(U256::from(18))),
            fees: Some(FeesSeen { next_base_fee: GWEI, blocks }),
            ..Answers::default()
        },
    }
}

pub(super) fn earlier() -> Earlier {
    let registration = Some(RegistrationId::from_bytes([5; 16]));
    Earlier { nonce: 4, hash: B256::repeat_byte(4), registration }
}

pub(super) fn stall(seen: &mut Evidence) {
    seen.chain.stalled = Some(StallSeen { head: 120, lasting: Duration::from_secs(29) });
}

pub(super) fn forgotten(sent: &mut Sent) {
    sent.answers.known = says(false);
}
pub(super) fn refuses(meaning: Meaning) -> impl Fn(&mut Sent) {
    move |sent| (sent.answers.known, sent.refusal) = (says(false), Some(refused(meaning)))
}
pub(super) fn poor(sent: &mut Sent) {
    sent.answers.balance = Some(U256::from(GAS) * U256::from(8 * GWEI) - U256::from(1));
}
pub(super) fn huge(sent: &mut Sent) {
    (sent.gas_limit, sent.answers.balance) = (40_000_000, None);
}
pub(super) fn cheap(sent: &mut Sent) {
    sent.answers.fees.as_mut().unwrap().next_base_fee = 8 * GWEI + 1;
}
pub(super) fn crowded(sent: &mut Sent) {
    let blocks = &mut sent.answers.fees.as_mut().unwrap().blocks;
    blocks[4..].fill(BlockSeen { room: GAS - 1, low_tip: GWEI / 100 });
}
pub(super) fn used(sent: &mut Sent) {
    (sent.answers.nonces, sent.missing_for) = (says(8), Some(Duration::from_secs(3)));
}
pub(super) fn gapped(sent: &mut Sent) {
    sent.answers.nonces = says(5);
}
pub(super) fn reorged(sent: &mut Sent) {
    sent.reorged_out = Some(118);
}
pub(super) fn included(sent: &mut Sent) {
    sent.answers.receipts = says(Some(receipt(true)));
}
pub(super) fn failed(sent: &mut Sent) {
    sent.answers.receipts = says(Some(receipt(false)));
}
pub(super) fn behind(sent: &mut Sent) {
    sent.earlier = Some(earlier());
}

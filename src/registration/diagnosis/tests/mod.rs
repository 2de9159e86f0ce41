//! The truth table: a row for each cause, and for each pair of causes that can be true together.

mod fixtures;

use super::*;
use crate::registration::{
    BlockedReason, Timestamp,
    policy::{budget::OverBudget, fees::FeeCapExceeded},
};
use alloy::primitives::{B256, U256, bytes};
use fixtures::*;
use std::{collections::HashSet, time::Duration};

/// What is so, the cause, and what its explanation has to say.
type Row = (&'static str, Evidence, Cause, &'static [&'static str]);

fn with(faults: &[&dyn Fn(&mut SubmittedTx)]) -> Evidence {
    let mut sent = pending_tx();
    faults.iter().for_each(|fault| fault(&mut sent));
    evidence_for(Subject::Submitted(Box::new(sent)))
}

fn changed(mut seen: Evidence, change: impl Fn(&mut Evidence)) -> Evidence {
    change(&mut seen);
    seen
}

fn blocked(blocked: BlockedReason, blocker: Option<Blocker>) -> Evidence {
    evidence_for(Subject::Unsent(Unsent { blocked_reason: Some(blocked), blocker, ..Unsent::default() }))
}

fn in_a_block() -> Evidence {
    evidence_for(Subject::Included { block: 120, block_votes: vec![] })
}

fn with_block_votes(by: [bool; 2]) -> Evidence {
    let shown = [ENDPOINT_A, ENDPOINT_B]
        .into_iter()
        .zip(by)
        .map(|(name, says)| EndpointAnswer { endpoint: name.into(), value: says });
    evidence_for(Subject::Included { block: 119, block_votes: shown.collect() })
}

fn down(seen: &mut Evidence) {
    (seen.chain.usable, seen.chain.unusable) =
        (vec![], vec![endpoint(ENDPOINT_A, "down"), endpoint(ENDPOINT_B, "quarantined")]);
}

fn no_answers(sent: &mut SubmittedTx) {
    let silent = from_both_endpoints("timed out".to_owned());
    sent.answers = RpcAnswers { unanswered: silent, ..RpcAnswers::default() };
}

fn endpoint_and_block_rows() -> Vec<Row> {
    use Cause::*;
    let lagging = |seen: &mut Evidence| seen.chain.usable[1].lag = Some(Duration::from_secs(9));
    let first_lags = |seen: &mut Evidence| seen.chain.usable[0].lag = Some(Duration::from_secs(9));
    let local = |seen: &mut Evidence| {
        stall(seen);
        seen.chain.mines_on_demand = true;
        seen.chain.head.as_mut().unwrap().age = Duration::from_secs(29);
    };
    let one_shows = |sent: &mut SubmittedTx| sent.answers.receipts[0].value = Some(receipt(true));
    let two_branches = |sent: &mut SubmittedTx| {
        included(sent);
        sent.answers.receipts[1].value = Some(ReceiptSnapshot { block_hash: B256::repeat_byte(2), ..receipt(true) });
    };
    let one_counts = |sent: &mut SubmittedTx| sent.answers.nonces[1].value = 8;
    let abandoned = |sent: &mut SubmittedTx| {
        included(sent);
        sent.answers.canonical_block_hash = Some(B256::repeat_byte(9));
    };
    vec![
        ("no endpoint", changed(with(&[]), down), RpcUnavailable, &["first-and", "down: timed out", "quarantined"]),
        ("no endpoint, in a block", changed(in_a_block(), down), RpcUnavailable, &["REGISTRAR_RPC_URLS"]),
        ("no endpoint, behind another", changed(with(&[&behind_earlier_nonce]), down), RpcUnavailable, &[]),
        ("no endpoint, blocked", changed(blocked(BlockedReason::FeeCap, None), down), RpcUnavailable, &[]),
        ("no endpoint answers", with(&[&no_answers]), RpcUnavailable, &["timed out"]),
        ("standstill", changed(with(&[]), stall), ChainStalled, &["29 s", "block 120"]),
        ("standstill, in a block", changed(in_a_block(), stall), ChainStalled, &["in block 120"]),
        ("standstill, forgotten", changed(with(&[&unknown_to_nodes]), stall), ChainStalled, &[]),
        ("standstill, behind another", changed(with(&[&behind_earlier_nonce]), stall), ChainStalled, &[]),
        ("anvil mines nothing", changed(with(&[]), local), ChainStalled, &["29 s", "--block-time 1"]),
        (
            "anvil, in a block",
            changed(in_a_block(), local),
            AwaitingConfirmations,
            &["REGISTRAR_CONFIRMATIONS=1", "29 s"],
        ),
        ("anvil, forgotten", changed(with(&[&unknown_to_nodes]), local), DroppedFromMempool, &[]),
        ("anvil, a gap", changed(with(&[&nonce_gap]), local), NonceGap, &[]),
        ("one shows a receipt", with(&[&one_shows]), RpcDisagreement, &["block 120", "first-and", "second-and"]),
        ("two branches", with(&[&two_branches]), RpcDisagreement, &["does not"]),
        ("one shows it nonce_consumed", with(&[&one_counts]), RpcDisagreement, &["nonce 7"]),
        (
            "one lags, and it alone knows it",
            changed(with(&[&unknown_to_nodes, &known]), lagging),
            RpcDisagreement,
            &["9 s behind"],
        ),
        ("one lags, and both know it", changed(with(&[]), lagging), Pending, &[]),
        ("the first lags, and both know it", changed(with(&[]), first_lags), Pending, &[]),
        ("one lags, forgotten", changed(with(&[&unknown_to_nodes]), lagging), DroppedFromMempool, &[]),
        ("one lags, poor", changed(with(&[&balance_too_low]), lagging), InsufficientFunds, &[]),
        ("in a block", in_a_block(), AwaitingConfirmations, &["block 120", "1 of the 2 confirmations"]),
        (
            "deep, and they differ",
            with_block_votes([false, true]),
            RpcDisagreement,
            &["second-and", "block 119", "first-and"],
        ),
        ("deep, and they agree", with_block_votes([true, true]), AwaitingConfirmations, &["2 of the 2", "agree"]),
        ("deep, and neither shows it", with_block_votes([false, false]), AwaitingConfirmations, &[]),
        ("in a block that was not reported", with(&[&included]), AwaitingConfirmations, &["1 of the 2"]),
        ("included and poor", with(&[&included, &balance_too_low]), AwaitingConfirmations, &[]),
        ("receipt of a lost block", with(&[&abandoned]), Reorged, &["Block 120"]),
        ("reorged", with(&[&reorged]), Reorged, &["Block 118"]),
        ("reorged, forgotten", with(&[&reorged, &unknown_to_nodes]), Reorged, &[]),
        ("reorged, poor", with(&[&reorged, &balance_too_low]), InsufficientFunds, &[]),
        ("reorged, nonce_consumed", with(&[&reorged, &nonce_consumed]), ReplacedExternally, &[]),
        ("reorged, refused", with(&[&reorged, &rejected_as(RejectKind::SenderLimit)]), SenderLimit, &[]),
    ]
}

fn revert_rows() -> Vec<Row> {
    use Cause::*;
    let because = |revert: RevertReason| move |sent: &mut SubmittedTx| sent.answers.revert = Some(revert.clone());
    let removed = because(RevertReason::NotRegistrar(SIGNER));
    let data = because(RevertReason::Data(bytes!("0xdeadbeef")));
    let nothing = because(RevertReason::NotReproduced);
    let out_of_gas = |sent: &mut SubmittedTx| {
        let receipt = ReceiptSnapshot { gas_used: GAS_LIMIT, ..receipt(false) };
        sent.answers.receipts = from_both_endpoints(Some(receipt));
    };
    let words: &[&str] = &["0xaAaAaAaaAaAaAaaAaAAAAAAAAaaaAaAaAaaAaaAa", "addRegistrar", "2 confirmations (1 now)"];
    let not_allowed = blocked(BlockedReason::SignerNotAllowed, Some(Blocker::SignerNotAllowed(SIGNER)));
    vec![
        ("not allowed", with(&[&failed, &removed]), Reverted, words),
        ("with data", with(&[&failed, &data]), Reverted, &["0xdeadbeef"]),
        ("run again it does not", with(&[&failed, &nothing]), Reverted, &["run again it does not"]),
        ("why was not answered", with(&[&failed]), Reverted, &["block 120 and reverted."]),
        ("out of gas", with(&[&out_of_gas, &nothing]), Reverted, &["out of gas", "52000"]),
        ("simulated", not_allowed, Reverted, &["addRegistrar(0xaAaA"]),
        ("simulated, before a restart", blocked(BlockedReason::SignerNotAllowed, None), Reverted, &["addRegistrar"]),
    ]
}

fn transaction_rows() -> Vec<Row> {
    use Cause::*;
    let unheard = |sent: &mut SubmittedTx| sent.answers.tx_known = vec![];
    let early = |seen: &mut Evidence| seen.now = Timestamp::from_seconds(SUBMITTED_AT_SECONDS + 2);
    let missed = |sent: &mut SubmittedTx| sent.nonce_consumed_for = None;
    let uncrowded = |sent: &mut SubmittedTx| {
        congested_blocks(sent);
        sent.answers.fees.as_mut().unwrap().blocks[4] = BlockFullness { free_gas: GAS_LIMIT, p10_tip: GWEI };
    };
    let other = rejected_as(RejectKind::Other);
    vec![
        (
            "used",
            with(&[&nonce_consumed]),
            ReplacedExternally,
            &["Nonce 7 of 0xaAaA", "next one is 8", "3 s", "2 blocks"],
        ),
        ("used and forgotten", with(&[&nonce_consumed, &unknown_to_nodes]), ReplacedExternally, &[]),
        ("used a moment ago", with(&[&nonce_consumed, &missed]), Pending, &["nonce 7"]),
        (
            "outbid",
            with(&[&rejected_as(RejectKind::ReplacementUnderpriced)]),
            ReplacedExternally,
            &["nonce 7", "higher fees"],
        ),
        ("gap", with(&[&nonce_gap]), NonceGap, &["is 5", "has 7", "filled automatically"]),
        ("a gap of one", with(&[&|sent| sent.answers.nonces = from_both_endpoints(6)]), NonceGap, &["is 6"]),
        (
            "a gap that a laggard shows",
            with(&[&|sent| sent.answers.nonces = from_both_endpoints(6), &|sent| sent.last_seen_nonce = Some(7)]),
            Pending,
            &[],
        ),
        ("gap and forgotten", with(&[&nonce_gap, &unknown_to_nodes]), NonceGap, &[]),
        ("behind", with(&[&behind_earlier_nonce]), BlockedByEarlierNonce, &["nonce 4", "0x04040404", "05050505-0505"]),
        (
            "behind, forgotten, poor",
            with(&[&behind_earlier_nonce, &unknown_to_nodes, &balance_too_low]),
            BlockedByEarlierNonce,
            &[],
        ),
        ("cheap", with(&[&below_base_fee]), FeeTooLow, &["8 gwei", "8.000000001 gwei", "replaced with higher fees"]),
        ("cheap and forgotten", with(&[&below_base_fee, &unknown_to_nodes]), FeeTooLow, &[]),
        ("cheap and crowded", with(&[&below_base_fee, &congested_blocks]), FeeTooLow, &[]),
        (
            "fee refused",
            with(&[&rejected_as(RejectKind::FeeTooLow)]),
            FeeTooLow,
            &["a node's words", "8 gwei", "0.001 gwei"],
        ),
        ("crowded", with(&[&congested_blocks]), TipTooLow, &["0.001 gwei", "6 of the last 10", "0.01 gwei"]),
        ("crowded and forgotten", with(&[&congested_blocks, &unknown_to_nodes]), TipTooLow, &[]),
        ("half of the blocks had room", with(&[&uncrowded]), Pending, &[]),
        ("forgotten", with(&[&unknown_to_nodes]), DroppedFromMempool, &["31 s ago", "first-and", "second-and"]),
        ("forgotten and refused", with(&[&other]), DroppedFromMempool, &["a node's words", "-32003"]),
        ("not known so early", changed(with(&[&unknown_to_nodes]), early), Pending, &["2 s"]),
        ("poor", with(&[&balance_too_low]), InsufficientFunds, &["0xaAaA", "0.000415999999999999 ETH", "0.000416 ETH"]),
        ("poor and forgotten", with(&[&balance_too_low, &unknown_to_nodes]), InsufficientFunds, &[]),
        ("poor and cheap", with(&[&balance_too_low, &below_base_fee]), InsufficientFunds, &[]),
        ("poor and huge", with(&[&gas_above_block_limit, &balance_too_low]), InsufficientFunds, &[]),
        ("funds refused", with(&[&rejected_as(RejectKind::InsufficientFunds)]), InsufficientFunds, &["L1 fees"]),
        (
            "full",
            with(&[&rejected_as(RejectKind::SenderLimit)]),
            SenderLimit,
            &["a node's words", "-32003", "1 of this one are pending"],
        ),
        ("full, not asked", with(&[&rejected_as(RejectKind::SenderLimit), &unheard]), SenderLimit, &[]),
        ("full, and known elsewhere", with(&[&rejected_as(RejectKind::SenderLimit), &known]), Pending, &["second-and"]),
        ("huge", with(&[&gas_above_block_limit]), TooLarge, &["40000000", "16777216"]),
        ("huge and forgotten", with(&[&gas_above_block_limit, &unknown_to_nodes]), TooLarge, &[]),
        ("gas refused", with(&[&rejected_as(RejectKind::GasLimit)]), TooLarge, &["52000", "a node's words"]),
        ("nothing is wrong", with(&[]), Pending, &["31 s", "first-and", "second-and"]),
        ("nothing was asked", with(&[&|sent| sent.answers = RpcAnswers::default()]), Pending, &["31 s"]),
    ]
}

fn known(sent: &mut SubmittedTx) {
    sent.answers.tx_known[1].value = true;
}

fn queue_rows() -> Vec<Row> {
    use Cause::*;
    let refusing = |meaning| Some(Blocker::Rejected(rejection(meaning)));
    let funds = Blocker::InsufficientFunds { signer: SIGNER, balance: U256::from(1), needed: U256::from(GWEI) };
    let cap = Blocker::FeeCap(FeeCapExceeded { needed: 6 * GWEI, cap: 5 * GWEI });
    let large = Blocker::TooLarge(crate::registration::diagnosis::TxTooLarge { gas_limit: 52_000, max_gas: 40_000 });
    let (taken, next) = (900_000 * GWEI + 1, 200_000 * GWEI);
    let budget = Blocker::DailyBudget(OverBudget { committed: taken, next_cost: next, budget: 1_000_000 * GWEI });
    let unreachable = Blocker::NoEndpoint("first.example does not answer eth_call: timed out".into());
    let unsent = |unsent| evidence_for(Subject::Unsent(unsent));
    let found = Unsent {
        blocked_reason: Some(BlockedReason::AwaitingConfirmations),
        foreign_block: Some(119),
        ..Unsent::default()
    };
    let later = Unsent { earlier_tx: Some(earlier_tx()), ..Unsent::default() };
    vec![
        ("its turn", unsent(Unsent::default()), Pending, &["waits in the queue"]),
        ("its turn, standstill", changed(unsent(Unsent::default()), stall), ChainStalled, &["29 s"]),
        ("all are out", unsent(later), BlockedByEarlierNonce, &["nonce 4"]),
        (
            "no answer",
            blocked(BlockedReason::NoEndpoint, Some(unreachable)),
            RpcUnavailable,
            &["does not answer eth_call"],
        ),
        ("no answer, restarted", blocked(BlockedReason::NoEndpoint, None), RpcUnavailable, &["last time"]),
        (
            "empty",
            blocked(BlockedReason::InsufficientFunds, Some(funds)),
            InsufficientFunds,
            &["0.000000001 ETH", "nothing is sent"],
        ),
        (
            "empty, restarted",
            blocked(BlockedReason::InsufficientFunds, None),
            InsufficientFunds,
            &["Send the signer some ETH"],
        ),
        (
            "empty, says a node",
            blocked(BlockedReason::InsufficientFunds, refusing(RejectKind::InsufficientFunds)),
            InsufficientFunds,
            &["L1 fees"],
        ),
        ("empty, standstill", changed(blocked(BlockedReason::InsufficientFunds, None), stall), InsufficientFunds, &[]),
        ("cap", blocked(BlockedReason::FeeCap, Some(cap)), FeeTooLow, &["6 gwei", "5 gwei", "REGISTRAR_MAX_FEE_GWEI"]),
        ("cap, restarted", blocked(BlockedReason::FeeCap, None), FeeTooLow, &["REGISTRAR_MAX_FEE_GWEI"]),
        ("found", unsent(found), AwaitingConfirmations, &["block 119", "2 of the 2"]),
        (
            "found somewhere",
            blocked(BlockedReason::AwaitingConfirmations, None),
            AwaitingConfirmations,
            &["not deep enough"],
        ),
        (
            "full",
            blocked(BlockedReason::NodeRefuses, refusing(RejectKind::SenderLimit)),
            SenderLimit,
            &["a node's words"],
        ),
        ("large", blocked(BlockedReason::NodeRefuses, refusing(RejectKind::GasLimit)), TooLarge, &["a node's words"]),
        ("too large", blocked(BlockedReason::TooLarge, Some(large)), TooLarge, &["52000", "40000"]),
        ("too large, restarted", blocked(BlockedReason::TooLarge, None), TooLarge, &["16777216"]),
        (
            "budget",
            blocked(BlockedReason::DailyBudget, Some(budget)),
            Pending,
            &["budget", "0.001 ETH", "0.000900000000000001 ETH", "0.0002 ETH", "00:00 UTC", "raised"],
        ),
        (
            "budget, restarted",
            blocked(BlockedReason::DailyBudget, None),
            Pending,
            &["REGISTRAR_DAILY_BUDGET_ETH", "00:00 UTC"],
        ),
        (
            "another chain",
            blocked(
                BlockedReason::NodeRefuses,
                Some(Blocker::NoContract { endpoint: ENDPOINT_A.into(), contract: SIGNER }),
            ),
            RpcUnavailable,
            &["no contract at 0xaAaA", "restarted", "REGISTRAR_RPC_URLS", "new contract"],
        ),
        (
            "cannot be tried",
            blocked(BlockedReason::NodeRefuses, Some(Blocker::Other("x".repeat(400)))),
            Pending,
            &["xxx..."],
        ),
        (
            "refused",
            blocked(BlockedReason::NodeRefuses, refusing(RejectKind::Other)),
            Pending,
            &["a node's words", "-32003"],
        ),
        ("refused, restarted", blocked(BlockedReason::NodeRefuses, None), Pending, &["in the log"]),
        ("stale", blocked(BlockedReason::NodeRefuses, refusing(RejectKind::InsufficientFunds)), Pending, &[]),
    ]
}

fn rows() -> Vec<Row> {
    [endpoint_and_block_rows(), revert_rows(), transaction_rows(), queue_rows()].concat()
}

#[test]
fn each_cause_and_each_tie_is_decided_as_the_table_says() {
    let mut wrong = Vec::new();
    for (what, seen, expected, _) in rows() {
        let cause = diagnose(&seen).cause;
        if cause != expected {
            wrong.push(format!("{what}: {} instead of {}", cause.code(), expected.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let seen: HashSet<Cause> = rows().into_iter().map(|(_, _, cause, _)| cause).collect();
    assert_eq!(seen.len(), Cause::CODES.len(), "a cause without a row");
}

#[test]
fn each_explanation_says_the_numbers_in_few_words_and_names_no_url() {
    let mut wrong = Vec::new();
    for (what, seen, _, words) in rows() {
        let text = diagnose(&seen).explanation;
        let mut hold = |good: bool, rule: &str| {
            if !good {
                wrong.push(format!("{what}: {rule}, and has {}: {text}", text.len()));
            }
        };
        for word in words {
            hold(text.contains(word), word);
        }
        hold(text.len() <= MAX_EXPLANATION_CHARS && !text.ends_with("..."), "at most 300 characters");
        hold(text.chars().all(|c| matches!(c, ' '..='~')) && !text.contains("://"), "plain ASCII without a URL");
        hold(!text.contains("  ") && !text.contains(" .") && text.ends_with('.'), "whole sentences");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_evidence_has_stable_keys_with_their_units() {
    let keys = |seen: &Evidence| diagnose(seen).evidence.into_keys().collect::<Vec<_>>();
    let general = ["chainNonce", "headBlock", "knownTo", "noReceiptFrom", "nonce", "secondsSinceSubmit", "state"];
    for (seen, own) in [
        (with(&[&balance_too_low]), &["balanceWei", "from", "neededWei"][..]),
        (with(&[&below_base_fee]), &["maxFeePerGasWei", "nextBaseFeePerGasWei"]),
        (
            with(&[&congested_blocks]),
            &["crowdedBlocks", "gasLimit", "lowestCrowdedTipPerGasWei", "offeredTipPerGasWei"],
        ),
        (with(&[&gas_above_block_limit]), &["gasLimit", "mostGas"]),
        (with(&[&nonce_gap]), &["from", "missingNonce"]),
        (with(&[]), &["acceptedBy"]),
    ] {
        let mut expected: Vec<_> = general.iter().chain(own).map(|key| (*key).to_owned()).collect();
        expected.sort();
        assert_eq!(keys(&seen), expected);
    }
    let over = OverBudget { committed: 2, next_cost: 3, budget: 4 };
    let budget = blocked(BlockedReason::DailyBudget, Some(Blocker::DailyBudget(over)));
    assert_eq!(
        keys(&budget),
        ["blockedReason", "budgetWei", "headBlock", "neededWei", "secondsSinceSubmit", "state", "takenWei"]
    );
    let awaiting = ["confirmations", "confirmationsRequired", "headBlock", "includedBlock"];
    assert_eq!(keys(&in_a_block())[..4], awaiting);
    let evidence = diagnose(&with(&[&balance_too_low])).evidence;
    assert_eq!((&*evidence["balanceWei"], &*evidence["neededWei"]), ("415999999999999", "416000000000000"));
}

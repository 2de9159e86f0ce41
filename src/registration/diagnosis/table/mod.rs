//! The truth table: a row for each cause, and for each pair of causes that can be true together.

mod seen;

use super::*;
use crate::registration::{
    Blocked,
    policy::{budget::OverBudget, fees::AboveCap},
};
use alloy::primitives::{B256, U256, bytes};
use seen::*;
use std::{collections::HashSet, time::Duration};

/// What is so, the cause, and what its explanation has to say.
type Row = (&'static str, Evidence, Cause, &'static [&'static str]);

fn with(faults: &[&dyn Fn(&mut Sent)]) -> Evidence {
    let mut sent = sent();
    faults.iter().for_each(|fault| fault(&mut sent));
    looked_at(Subject::Sent(Box::new(sent)))
}

fn changed(mut seen: Evidence, change: impl Fn(&mut Evidence)) -> Evidence {
    change(&mut seen);
    seen
}

fn held(blocked: Blocked, hindrance: Option<Hindrance>) -> Evidence {
    looked_at(Subject::Unsent(Unsent { blocked: Some(blocked), hindrance, ..Unsent::default() }))
}

fn in_a_block() -> Evidence {
    looked_at(Subject::Included { block: 120, shown: vec![] })
}

fn shown(by: [bool; 2]) -> Evidence {
    let shown = [A, B].into_iter().zip(by).map(|(name, says)| Witnessed { endpoint: name.into(), says });
    looked_at(Subject::Included { block: 119, shown: shown.collect() })
}

fn down(seen: &mut Evidence) {
    (seen.chain.usable, seen.chain.unusable) = (vec![], vec![endpoint(A, "down"), endpoint(B, "quarantined")]);
}

fn silent(sent: &mut Sent) {
    let silent = says("timed out".to_owned());
    sent.answers = Answers { silent, ..Answers::default() };
}

fn of_endpoints_and_blocks() -> Vec<Row> {
    use Cause::*;
    let lagging = |seen: &mut Evidence| seen.chain.usable[1].lag = Some(Duration::from_secs(9));
    let first_lags = |seen: &mut Evidence| seen.chain.usable[0].lag = Some(Duration::from_secs(9));
    let local = |seen: &mut Evidence| {
        stall(seen);
        seen.chain.mines_on_demand = true;
        seen.chain.head.as_mut().unwrap().still = Duration::from_secs(29);
    };
    let one_shows = |sent: &mut Sent| sent.answers.receipts[0].says = Some(receipt(true));
    let two_branches = |sent: &mut Sent| {
        included(sent);
        sent.answers.receipts[1].says = Some(ReceiptSeen { block_hash: B256::repeat_byte(2), ..receipt(true) });
    };
    let one_counts = |sent: &mut Sent| sent.answers.nonces[1].says = 8;
    let abandoned = |sent: &mut Sent| {
        included(sent);
        sent.answers.canonical = Some(B256::repeat_byte(9));
    };
    vec![
        ("no endpoint", changed(with(&[]), down), RpcUnavailable, &["first-and", "down: timed out", "quarantined"]),
        ("no endpoint, in a block", changed(in_a_block(), down), RpcUnavailable, &["REGISTRAR_RPC_URLS"]),
        ("no endpoint, behind another", changed(with(&[&behind]), down), RpcUnavailable, &[]),
        ("no endpoint, blocked", changed(held(Blocked::FeeCap, None), down), RpcUnavailable, &[]),
        ("nobody answers", with(&[&silent]), RpcUnavailable, &["timed out"]),
        ("standstill", changed(with(&[]), stall), ChainStalled, &["29 s", "block 120"]),
        ("standstill, in a block", changed(in_a_block(), stall), ChainStalled, &["in block 120"]),
        ("standstill, forgotten", changed(with(&[&forgotten]), stall), ChainStalled, &[]),
        ("standstill, behind another", changed(with(&[&behind]), stall), ChainStalled, &[]),
        ("anvil mines nothing", changed(with(&[]), local), ChainStalled, &["29 s", "--block-time 1"]),
        (
            "anvil, in a block",
            changed(in_a_block(), local),
            AwaitingConfirmations,
            &["REGISTRAR_CONFIRMATIONS=1", "29 s"],
        ),
        ("anvil, forgotten", changed(with(&[&forgotten]), local), DroppedFromMempool, &[]),
        ("anvil, a gap", changed(with(&[&gapped]), local), NonceGap, &[]),
        ("one shows a receipt", with(&[&one_shows]), RpcDisagreement, &["block 120", "first-and", "second-and"]),
        ("two branches", with(&[&two_branches]), RpcDisagreement, &["does not"]),
        ("one shows it used", with(&[&one_counts]), RpcDisagreement, &["nonce 7"]),
        (
            "one lags, and it alone knows it",
            changed(with(&[&forgotten, &known]), lagging),
            RpcDisagreement,
            &["9 s behind"],
        ),
        ("one lags, and both know it", changed(with(&[]), lagging), Pending, &[]),
        ("the first lags, and both know it", changed(with(&[]), first_lags), Pending, &[]),
        ("one lags, forgotten", changed(with(&[&forgotten]), lagging), DroppedFromMempool, &[]),
        ("one lags, poor", changed(with(&[&poor]), lagging), InsufficientFunds, &[]),
        ("in a block", in_a_block(), AwaitingConfirmations, &["block 120", "1 of the 2 confirmations"]),
        ("deep, and they differ", shown([false, true]), RpcDisagreement, &["second-and", "block 119", "first-and"]),
        ("deep, and they agree", shown([true, true]), AwaitingConfirmations, &["2 of the 2", "agree"]),
        ("deep, and neither shows it", shown([false, false]), AwaitingConfirmations, &[]),
        ("in a block nobody told of", with(&[&included]), AwaitingConfirmations, &["1 of the 2"]),
        ("included and poor", with(&[&included, &poor]), AwaitingConfirmations, &[]),
        ("receipt of a lost block", with(&[&abandoned]), Reorged, &["Block 120"]),
        ("reorged", with(&[&reorged]), Reorged, &["Block 118"]),
        ("reorged, forgotten", with(&[&reorged, &forgotten]), Reorged, &[]),
        ("reorged, poor", with(&[&reorged, &poor]), InsufficientFunds, &[]),
        ("reorged, used", with(&[&reorged, &used]), ReplacedExternally, &[]),
        ("reorged, refused", with(&[&reorged, &refuses(Meaning::SenderLimit)]), SenderLimit, &[]),
    ]
}

fn of_reverts() -> Vec<Row> {
    use Cause::*;
    let because = |revert: Revert| move |sent: &mut Sent| sent.answers.revert = Some(revert.clone());
    let removed = because(Revert::NotRegistrar(SIGNER));
    let data = because(Revert::Data(bytes!("0xdeadbeef")));
    let nothing = because(Revert::Nothing);
    let out_of_gas = |sent: &mut Sent| {
        let receipt = ReceiptSeen { gas_used: GAS, ..receipt(false) };
        sent.answers.receipts = says(Some(receipt));
    };
    let words: &[&str] = &["0xaAaAaAaaAaAaAaaAaAAAAAAAAaaaAaAaAaaAaaAa", "addRegistrar", "2 confirmations (1 now)"];
    let not_allowed = held(Blocked::SignerNotAllowed, Some(Hindrance::NotAllowed(SIGNER)));
    vec![
        ("not allowed", with(&[&failed, &removed]), Reverted, words),
        ("with data", with(&[&failed, &data]), Reverted, &["0xdeadbeef"]),
        ("run again it does not", with(&[&failed, &nothing]), Reverted, &["run again it does not"]),
        ("why was not answered", with(&[&failed]), Reverted, &["block 120 and reverted."]),
        ("out of gas", with(&[&out_of_gas, &nothing]), Reverted, &["out of gas", "52000"]),
        ("simulated", not_allowed, Reverted, &["addRegistrar(0xaAaA"]),
        ("simulated, before a restart", held(Blocked::SignerNotAllowed, None), Reverted, &["addRegistrar"]),
    ]
}

fn of_the_transaction() -> Vec<Row> {
    use Cause::*;
    let unheard = |sent: &mut Sent| sent.answers.known = vec![];
    let early = |seen: &mut Evidence| seen.now = Timestamp::from_seconds(SUBMITTED + 2);
    let missed = |sent: &mut Sent| sent.missing_for = None;
    let uncrowded = |sent: &mut Sent| {
        crowded(sent);
        sent.answers.fees.as_mut().unwrap().blocks[4] = BlockSeen { room: GAS, low_tip: GWEI };
    };
    let other = refuses(Meaning::Other);
    vec![
        ("used", with(&[&used]), ReplacedExternally, &["Nonce 7 of 0xaAaA", "next one is 8", "3 s", "2 blocks"]),
        ("used and forgotten", with(&[&used, &forgotten]), ReplacedExternally, &[]),
        ("used a moment ago", with(&[&used, &missed]), Pending, &["nonce 7"]),
        ("outbid", with(&[&refuses(Meaning::Replacement)]), ReplacedExternally, &["nonce 7", "offers more"]),
        ("gap", with(&[&gapped]), NonceGap, &["is 5", "has 7", "It is filled by itself"]),
        ("a gap of one", with(&[&|sent| sent.answers.nonces = says(6)]), NonceGap, &["is 6"]),
        (
            "a gap that a laggard shows",
            with(&[&|sent| sent.answers.nonces = says(6), &|sent| sent.seen_nonce = Some(7)]),
            Pending,
            &[],
        ),
        ("gap and forgotten", with(&[&gapped, &forgotten]), NonceGap, &[]),
        ("behind", with(&[&behind]), BlockedByEarlierNonce, &["nonce 4", "0x04040404", "05050505-0505"]),
        ("behind, forgotten, poor", with(&[&behind, &forgotten, &poor]), BlockedByEarlierNonce, &[]),
        ("cheap", with(&[&cheap]), FeeTooLow, &["8 gwei", "8.000000001 gwei", "signed again"]),
        ("cheap and forgotten", with(&[&cheap, &forgotten]), FeeTooLow, &[]),
        ("cheap and crowded", with(&[&cheap, &crowded]), FeeTooLow, &[]),
        ("fee refused", with(&[&refuses(Meaning::Fee)]), FeeTooLow, &["a node's words", "8 gwei", "0.001 gwei"]),
        ("crowded", with(&[&crowded]), TipTooLow, &["0.001 gwei", "6 of the last 10", "0.01 gwei"]),
        ("crowded and forgotten", with(&[&crowded, &forgotten]), TipTooLow, &[]),
        ("half of the blocks had room", with(&[&uncrowded]), Pending, &[]),
        ("forgotten", with(&[&forgotten]), DroppedFromMempool, &["31 s ago", "first-and", "second-and"]),
        ("forgotten and refused", with(&[&other]), DroppedFromMempool, &["a node's words", "-32003"]),
        ("not known so early", changed(with(&[&forgotten]), early), Pending, &["2 s"]),
        ("poor", with(&[&poor]), InsufficientFunds, &["0xaAaA", "0.000415999999999999 ETH", "0.000416 ETH"]),
        ("poor and forgotten", with(&[&poor, &forgotten]), InsufficientFunds, &[]),
        ("poor and cheap", with(&[&poor, &cheap]), InsufficientFunds, &[]),
        ("poor and huge", with(&[&huge, &poor]), InsufficientFunds, &[]),
        ("funds refused", with(&[&refuses(Meaning::Funds)]), InsufficientFunds, &["L1 fees"]),
        (
            "full",
            with(&[&refuses(Meaning::SenderLimit)]),
            SenderLimit,
            &["a node's words", "-32003", "1 of this one wait"],
        ),
        ("full, not asked", with(&[&refuses(Meaning::SenderLimit), &unheard]), SenderLimit, &[]),
        ("full, and known elsewhere", with(&[&refuses(Meaning::SenderLimit), &known]), Pending, &["second-and"]),
        ("huge", with(&[&huge]), TooLarge, &["40000000", "16777216"]),
        ("huge and forgotten", with(&[&huge, &forgotten]), TooLarge, &[]),
        ("gas refused", with(&[&refuses(Meaning::Gas)]), TooLarge, &["52000", "a node's words"]),
        ("nothing is wrong", with(&[]), Pending, &["31 s", "first-and", "second-and"]),
        ("nothing was asked", with(&[&|sent| sent.answers = Answers::default()]), Pending, &["31 s"]),
    ]
}

fn known(sent: &mut Sent) {
    sent.answers.known[1].says = true;
}

fn of_the_queue() -> Vec<Row> {
    use Cause::*;
    let refusing = |meaning| Some(Hindrance::Refused(refused(meaning)));
    let funds = Hindrance::Funds { signer: SIGNER, balance: U256::from(1), needed: U256::from(GWEI) };
    let cap = Hindrance::FeeCap(AboveCap { needed: 6 * GWEI, cap: 5 * GWEI });
    let large = Hindrance::TooLarge(crate::registration::diagnosis::TooLarge { gas: 52_000, most: 40_000 });
    let (taken, next) = (900_000 * GWEI + 1, 200_000 * GWEI);
    let budget = Hindrance::DailyBudget(OverBudget { taken, next, budget: 1_000_000 * GWEI });
    let nobody = Hindrance::NoEndpoint("first.example does not answer eth_call: timed out".into());
    let unsent = |unsent| looked_at(Subject::Unsent(unsent));
    let found = Unsent { blocked: Some(Blocked::AwaitingConfirmations), found_in: Some(119), ..Unsent::default() };
    let later = Unsent { earlier: Some(earlier()), ..Unsent::default() };
    vec![
        ("its turn", unsent(Unsent::default()), Pending, &["waits for its turn"]),
        ("its turn, standstill", changed(unsent(Unsent::default()), stall), ChainStalled, &["29 s"]),
        ("all are out", unsent(later), BlockedByEarlierNonce, &["nonce 4"]),
        ("no answer", held(Blocked::NoEndpoint, Some(nobody)), RpcUnavailable, &["does not answer eth_call"]),
        ("no answer, restarted", held(Blocked::NoEndpoint, None), RpcUnavailable, &["the last time"]),
        (
            "empty",
            held(Blocked::InsufficientFunds, Some(funds)),
            InsufficientFunds,
            &["0.000000001 ETH", "nothing is sent"],
        ),
        ("empty, restarted", held(Blocked::InsufficientFunds, None), InsufficientFunds, &["Send the signer some ETH"]),
        (
            "empty, says a node",
            held(Blocked::InsufficientFunds, refusing(Meaning::Funds)),
            InsufficientFunds,
            &["L1 fees"],
        ),
        ("empty, standstill", changed(held(Blocked::InsufficientFunds, None), stall), InsufficientFunds, &[]),
        ("cap", held(Blocked::FeeCap, Some(cap)), FeeTooLow, &["6 gwei", "5 gwei", "REGISTRAR_MAX_FEE_GWEI"]),
        ("cap, restarted", held(Blocked::FeeCap, None), FeeTooLow, &["REGISTRAR_MAX_FEE_GWEI"]),
        ("found", unsent(found), AwaitingConfirmations, &["block 119", "2 of the 2"]),
        ("found somewhere", held(Blocked::AwaitingConfirmations, None), AwaitingConfirmations, &["not deep enough"]),
        ("full", held(Blocked::NodeRefuses, refusing(Meaning::SenderLimit)), SenderLimit, &["a node's words"]),
        ("large", held(Blocked::NodeRefuses, refusing(Meaning::Gas)), TooLarge, &["a node's words"]),
        ("too large", held(Blocked::TooLarge, Some(large)), TooLarge, &["52000", "40000"]),
        ("too large, restarted", held(Blocked::TooLarge, None), TooLarge, &["16777216"]),
        (
            "budget",
            held(Blocked::DailyBudget, Some(budget)),
            Pending,
            &["budget", "0.001 ETH", "0.000900000000000001 ETH", "0.0002 ETH", "00:00 UTC", "raised"],
        ),
        ("budget, restarted", held(Blocked::DailyBudget, None), Pending, &["REGISTRAR_DAILY_BUDGET_ETH", "00:00 UTC"]),
        (
            "another chain",
            held(Blocked::NodeRefuses, Some(Hindrance::NoContract { endpoint: A.into(), contract: SIGNER })),
            RpcUnavailable,
            &["no contract at 0xaAaA", "restarted", "REGISTRAR_RPC_URLS", "new contract"],
        ),
        ("cannot be tried", held(Blocked::NodeRefuses, Some(Hindrance::Other("x".repeat(400)))), Pending, &["xxx..."]),
        ("refused", held(Blocked::NodeRefuses, refusing(Meaning::Other)), Pending, &["a node's words", "-32003"]),
        ("refused, restarted", held(Blocked::NodeRefuses, None), Pending, &["in the log"]),
        ("stale", held(Blocked::NodeRefuses, refusing(Meaning::Funds)), Pending, &[]),
    ]
}

fn rows() -> Vec<Row> {
    [of_endpoints_and_blocks(), of_reverts(), of_the_transaction(), of_the_queue()].concat()
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
        hold(text.len() <= LONGEST && !text.ends_with("..."), "at most 300 characters");
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
        (with(&[&poor]), &["balanceWei", "from", "neededWei"][..]),
        (with(&[&cheap]), &["maxFeePerGasWei", "nextBaseFeePerGasWei"]),
        (with(&[&crowded]), &["crowdedBlocks", "gasLimit", "lowestCrowdedTipPerGasWei", "offeredTipPerGasWei"]),
        (with(&[&huge]), &["gasLimit", "mostGas"]),
        (with(&[&gapped]), &["from", "missingNonce"]),
        (with(&[]), &["takenBy"]),
    ] {
        let mut expected: Vec<_> = general.iter().chain(own).map(|key| (*key).to_owned()).collect();
        expected.sort();
        assert_eq!(keys(&seen), expected);
    }
    let over = OverBudget { taken: 2, next: 3, budget: 4 };
    let budget = held(Blocked::DailyBudget, Some(Hindrance::DailyBudget(over)));
    assert_eq!(
        keys(&budget),
        ["blockedReason", "budgetWei", "headBlock", "neededWei", "secondsSinceSubmit", "state", "takenWei"]
    );
    let awaiting = ["confirmations", "confirmationsRequired", "headBlock", "includedBlock"];
    assert_eq!(keys(&in_a_block())[..4], awaiting);
    let evidence = diagnose(&with(&[&poor])).evidence;
    assert_eq!((&*evidence["balanceWei"], &*evidence["neededWei"]), ("415999999999999", "416000000000000"));
}

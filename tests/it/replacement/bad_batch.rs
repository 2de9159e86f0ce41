//! A registration that reverts in a block although its preflight succeeds.

use super::{CASE, assert_registered};
use crate::harness::{StackBuilder, State, TestStack, account, document};
use alloy::primitives::{Bytes, hex};
use futures_util::future::join_all;
use serde_json::json;

const COUNT: u64 = 40;
const REVERTING: u64 = 17;

/// Patches the contract so that registering this document reverts in a block, but not in a call without a gas price.
async fn revert_on_execution(stack: &TestStack, document: &str) {
    let rpc = stack.anvil.rpc();
    let mut code: Vec<u8> = rpc.call::<Bytes>("eth_getCode", json!([stack.registry.address, "latest"])).await.to_vec();
    let moved = first_instructions(&code);
    // Data after the code may look like the start of a push instruction.
    code.extend([0; 33]);
    let start = u16::try_from(code.len()).unwrap();
    let at = |offset: u16| hex::encode((start + offset).to_be_bytes());
    let (ahead, bad, end) = (at(9), at(65), at(69));
    // Preflights have no gas price. Each word of the calldata is compared with the document's hash.
    let back = hex::encode([u8::try_from(moved.len() - 1).unwrap()]);
    code.extend(assemble(&[
        &["5b 3a 15 61", &end, "57"],                // gas price 0: to the end
        &["60 04", "5b 80 36 11 15 61", &end, "57"], // ahead: no calldata left: to the end
        &["80 35 7f", document.trim_start_matches("0x"), "14 61", &bad, "57"], // the document: to the bad end
        &["60 20 01 61", &ahead, "56"],              // the next word
        &["5b 5f 5f fd"],                            // bad: revert
        &["5b", &hex::encode(&moved), "60", &back, "56"], // end: continue with the original code
    ]));
    code[..4].copy_from_slice(&assemble(&[&["61", &at(0), "56"]]));
    code[moved.len() - 1] = 0x5b;
    rpc.run("anvil_setCode", json!([stack.registry.address, Bytes::from(code)])).await;
}

fn assemble(lines: &[&[&str]]) -> Vec<u8> {
    hex::decode(lines.concat().concat().replace(' ', "")).unwrap()
}

/// The complete instructions in at least the first five bytes.
fn first_instructions(code: &[u8]) -> Vec<u8> {
    let mut length = 0;
    while length < 5 {
        length += 1 + match code[length] {
            push @ 0x60..=0x7f => usize::from(push - 0x5f),
            _ => 0,
        };
    }
    code[..length].to_vec()
}

#[tokio::test]
async fn a_reverting_registration_fails_alone_and_its_batch_is_confirmed() {
    let stack = StackBuilder::block_time(0.2).start().await;
    revert_on_execution(&stack, &document(REVERTING)).await;
    let funds = stack.anvil.balance(account(1)).await;
    stack.anvil.set_balance(account(1), 0).await;
    let accepted = join_all((0..COUNT).map(|number| stack.client.accept(number, CASE))).await;
    stack.anvil.set_balance(account(1), funds.to()).await;

    for (number, one) in (0..COUNT).zip(&accepted) {
        if number != REVERTING {
            stack.client.wait_for_state(&one.id, State::Confirmed).await;
        }
    }
    let id = accepted[REVERTING as usize].id.clone();
    let failed = stack.client.wait_for_state(&id, State::Failed).await;
    assert_eq!(failed.failure.unwrap().reason, "TRANSACTION_REVERTED");
    assert_registered(&stack, (0..COUNT).filter(|number| *number != REVERTING)).await;
}

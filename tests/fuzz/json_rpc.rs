//! Whatever a peer answers, the reader of JSON-RPC answers does not panic, and what it accepts is consistent.
#![no_main]

#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../src/chain/json_rpc.rs"]
mod json_rpc;

use json_rpc::{Answer, ErrorObject, data_text, read};
use libfuzzer_sys::fuzz_target;

const ID: u64 = 7;

fuzz_target!(|body: &[u8]| match read(body, ID) {
    Ok(Answer::Result(result)) => {
        let alone = format!(r#"{{"jsonrpc":"2.0","id":{ID},"result":{result}}}"#);
        match read(alone.as_bytes(), ID) {
            Ok(Answer::Result(again)) => assert_eq!(again.get(), result.get()),
            other => panic!("{result} is read as {other:?} on its own"),
        }
    }
    Ok(Answer::Error(error) | Answer::Unaddressed(error)) => check_error(&error),
    Err(_) => {}
});

fn check_error(error: &ErrorObject) {
    assert!(error.message.len() <= 16 << 10, "a message of {} bytes", error.message.len());
    assert!(error.code.unsigned_abs() <= 1 << 31, "{}", error.code);
    if let Some(data) = &error.data {
        assert!(data_text(data).len() <= data.get().len());
    }
}

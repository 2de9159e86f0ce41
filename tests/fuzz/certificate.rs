//! Whatever a file has in it, the reader of certificates does not panic, and what it accepts is written as it was read.
#![no_main]

#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../src/certificate/json.rs"]
mod json;

use json::{CertificateJson, JsonError, MAX_BYTES, VERSION};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| match CertificateJson::parse(text) {
    Ok(read) => {
        assert_eq!(read.version, VERSION);
        let written = read.to_text();
        // JSON may be written in fewer bytes than it is read from, never in more than six for one.
        assert!(written.len() <= 6 * MAX_BYTES + 1, "{} bytes", written.len());
        if written.len() <= MAX_BYTES {
            assert_eq!(CertificateJson::parse(written.as_bytes()), Ok(read));
        }
    }
    Err(JsonError::TooLarge(bytes)) => assert!(bytes > MAX_BYTES),
    Err(JsonError::UnknownVersion(version)) => assert_ne!(version, VERSION),
    Err(JsonError::Malformed(problem)) => assert!(problem.chars().count() <= 200 && !problem.is_empty()),
    Err(JsonError::TooDeep) => {}
});

//! Tokens of callers, which are recognized by their form.

use super::redaction::Redaction;
use std::ops::Range;

/// `rgs_` and 43 characters of base64url, as `registrar token new` makes them. A shorter one is part of one that was cut.
const MIN_TOKEN_LENGTH: usize = 12;

/// What begins with `rgs_`.
pub(super) fn find_token(text: &str, marker: Range<usize>) -> Option<Redaction<'_>> {
    let rest = &text[marker.end..];
    let length = rest.bytes().take_while(|byte| is_base64url(*byte)).count();
    (length >= MIN_TOKEN_LENGTH).then(|| Redaction::new(marker.start..marker.end + length))
}

/// A JSON Web Token: `{"` in base64url, and two dots (<https://www.rfc-editor.org/rfc/rfc7515#section-3.1>).
pub(super) fn find_jwt(text: &str, marker: Range<usize>) -> Option<Redaction<'_>> {
    let rest = &text[marker.start..];
    let length = rest.bytes().take_while(|byte| is_base64url(*byte) || *byte == b'.').count();
    let is_jwt = rest[..length].trim_end_matches('.').matches('.').count() >= 2;
    is_jwt.then(|| Redaction::new(marker.start..marker.start + length))
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

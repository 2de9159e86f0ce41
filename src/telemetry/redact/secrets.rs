//! The secrets of the settings, and what they look like inside other texts.

use super::{REPLACEMENT, is_plain_word};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::{collections::BTreeSet, fmt};
use url::form_urlencoded;

/// Shorter ones stand in many a word.
const MIN_SECRET_LEN: usize = 6;
/// Base64 of fewer bytes is too short to be told from words.
const MIN_BASE64_BYTES: usize = 9;
/// Hex digits of a private key.
const PRIVATE_KEY_HEX_DIGITS: usize = 64;
/// Words that stand in what we say whatever the settings: as passwords they protect nothing, and taking them out of every line
/// would tell them to everybody.
const NON_SECRET_WORDS: [&str; 12] = [
    "registrar",
    "postgres",
    "sqlite",
    "localhost",
    "service",
    "environment",
    "development",
    "production",
    "message",
    "target",
    "trace_id",
    "password",
];
/// All but what RFC 3986 (section 2.3) calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Secrets as the settings have them. They are shown to nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Adds a secret.
    pub fn add(&mut self, text: &str) {
        let text = text.trim();
        let public = NON_SECRET_WORDS.contains(&text) || REPLACEMENT.contains(text);
        if text.len() >= MIN_SECRET_LEN && !public {
            self.0.push(text.to_owned());
        }
    }

    /// Adds what may be a secret and may be a plain word, such as a piece of a path: plain words are left out.
    pub fn add_if_secret_like(&mut self, text: &str) {
        if !is_plain_word(text) {
            self.add(text);
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl IntoIterator for Secrets {
    type Item = String;
    type IntoIter = std::vec::IntoIter<String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A secret as other texts show it, in lower case: as it is; percent-encoded by browsers, by forms, by the careful, and decoded;
/// in JSON, and in JSON within JSON; in Debug texts; in base64, whatever follows it there; and a key with `0x`, without, and
/// as a list of bytes.
pub(super) fn encodings(secret: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let decoded = percent_decode_str(secret).decode_utf8_lossy();
    for plain in [secret, &decoded] {
        let json = json_escaped(plain);
        all.extend([
            plain.to_owned(),
            utf8_percent_encode(plain, RESERVED).to_string(),
            utf8_percent_encode(plain, NON_ALPHANUMERIC).to_string(),
            form_urlencoded::byte_serialize(plain.as_bytes()).collect(),
            json_escaped(&json),
            json,
            strip_quotes(&format!("{plain:?}")),
        ]);
        all.extend(base64_forms(plain.as_bytes()));
    }
    if let Some((digits, bytes)) = parse_private_key(secret) {
        let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
        all.extend([digits.to_owned(), format!("0x{digits}"), list.join(", "), list.join(",")]);
        all.extend(base64_forms(&bytes));
    }
    all.into_iter().filter(|text| text.len() >= MIN_SECRET_LEN).map(|text| text.to_ascii_lowercase()).collect()
}

fn json_escaped(text: &str) -> String {
    strip_quotes(&serde_json::Value::from(text).to_string())
}

fn strip_quotes(text: &str) -> String {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned()
}

/// Alone, and as it begins whatever follows: without the last letters, which depend on that.
fn base64_forms(bytes: &[u8]) -> Vec<String> {
    let whole = &bytes[..bytes.len() - bytes.len() % 3];
    if whole.len() < MIN_BASE64_BYTES {
        return Vec::new();
    }
    vec![STANDARD.encode(bytes), URL_SAFE.encode(bytes), STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)]
}

/// The digits and bytes of a private key.
fn parse_private_key(text: &str) -> Option<(&str, Vec<u8>)> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let bytes = alloy::primitives::hex::decode(digits).ok()?;
    (digits.len() == PRIVATE_KEY_HEX_DIGITS).then_some((digits, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_counted_and_never_shown() {
        let mut secrets = Secrets::default();
        for text in ["hunter2hunter2", " padded-secret\n", "short", "registrar", "redacted", ""] {
            secrets.add(text);
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
        assert_eq!(secrets.into_iter().collect::<Vec<_>>(), ["hunter2hunter2", "padded-secret"]);
    }

    #[test]
    fn a_plain_word_of_a_path_is_no_secret_and_whatever_may_be_a_key_is() {
        let mut secrets = Secrets::default();
        for name in ["base-sepolia", "base_sepolia", "jsonrpc", "apikey"] {
            secrets.add_if_secret_like(name);
        }
        assert_eq!(secrets, Secrets::default());
        for key in ["k3y-in-path", "AbCdEfGh", "abcdefghijklmnopqrstuvwxyz"] {
            secrets.add_if_secret_like(key);
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(3)");
    }
}

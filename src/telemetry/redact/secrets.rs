//! Configured secrets and their encodings in other texts.

use super::redaction::{REPLACEMENT, is_plain_word};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::{collections::BTreeSet, fmt};
use url::form_urlencoded;

/// Shorter ones are part of many words.
const MIN_SECRET_LEN: usize = 6;
/// Base64 of fewer bytes looks like a word.
const MIN_BASE64_BYTES: usize = 9;
const PRIVATE_KEY_HEX_DIGITS: usize = 64;
/// Words of our own texts. They are worthless as passwords, and redacting them in every line would reveal them.
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
/// All but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Secrets from the settings, never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn add(&mut self, text: &str) {
        let text = text.trim();
        let is_public = NON_SECRET_WORDS.contains(&text) || REPLACEMENT.contains(text);
        if text.len() >= MIN_SECRET_LEN && !is_public {
            self.0.push(text.to_owned());
        }
    }

    /// Adds a text, such as a part of a path, unless it is a plain word.
    pub(crate) fn add_if_secret_like(&mut self, text: &str) {
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

/// A secret and its encodings, in lower case: percent-encoded (reserved characters, all characters, forms) and
/// decoded, JSON, JSON within JSON, Debug text, base64, and for a private key with `0x`, without, and as a list of
/// bytes.
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

/// The whole text, and the part that does not depend on what follows in the same base64 text.
fn base64_forms(bytes: &[u8]) -> Vec<String> {
    let whole = &bytes[..bytes.len() - bytes.len() % 3];
    if whole.len() < MIN_BASE64_BYTES {
        return Vec::new();
    }
    vec![STANDARD.encode(bytes), URL_SAFE.encode(bytes), STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)]
}

fn parse_private_key(text: &str) -> Option<(&str, Vec<u8>)> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let bytes = alloy::primitives::hex::decode(digits).ok()?;
    (digits.len() == PRIVATE_KEY_HEX_DIGITS).then_some((digits, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_only_the_number_of_secrets() {
        let mut secrets = Secrets::default();
        for text in ["hunter2hunter2", " padded-secret\n", "short", "registrar", "redacted", ""] {
            secrets.add(text);
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
        assert_eq!(secrets.into_iter().collect::<Vec<_>>(), ["hunter2hunter2", "padded-secret"]);
    }

    #[test]
    fn plain_words_are_not_secrets_and_possible_keys_are() {
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

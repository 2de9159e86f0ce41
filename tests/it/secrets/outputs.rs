//! Everything that leaves the service, kept until it is searched for secrets.

use super::planted_secrets::Needle;
use aho_corasick::AhoCorasick;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::{collections::BTreeMap, fmt::Debug};

#[derive(Default)]
pub struct Outputs(Vec<(&'static str, Vec<u8>)>);

impl Outputs {
    pub fn keep(&mut self, name: &'static str, bytes: impl AsRef<[u8]>) {
        self.0.push((name, bytes.as_ref().to_ascii_lowercase()));
    }

    /// Keeps a value's debug output, both escaped and unescaped.
    pub fn keep_debug(&mut self, name: &'static str, value: &impl Debug) {
        let text = format!("{value:?}");
        self.keep(name, text.replace("\\\"", "\"").replace("\\\\", "\\"));
        self.keep(name, text);
    }

    /// Whether an output contains a text.
    pub fn have(&self, name: &str, text: &str) -> bool {
        self.0.iter().any(|(output, bytes)| {
            *output == name && String::from_utf8_lossy(bytes).contains(&text.to_ascii_lowercase())
        })
    }

    /// The secrets that are found in outputs where they must not be, in any encoding, with their surroundings.
    pub fn leaks(&self, needles: &[Needle]) -> BTreeMap<String, String> {
        let encoded: Vec<_> =
            needles.iter().flat_map(|needle| encodings(&needle.text).map(|encoding| (needle, encoding))).collect();
        let search = AhoCorasick::new(encoded.iter().map(|(_, encoding)| encoding)).unwrap();
        let mut found = BTreeMap::new();
        for (name, bytes) in &self.0 {
            for hit in search.find_overlapping_iter(bytes) {
                let (needle, _) = encoded[hit.pattern().as_usize()];
                if !needle.may_be_in.contains(name) {
                    let around = &bytes[hit.start().saturating_sub(150)..bytes.len().min(hit.end() + 150)];
                    let around = String::from_utf8_lossy(around).into_owned();
                    found.entry(format!("{needle} in {name}")).or_insert(around);
                }
            }
        }
        found
    }
}

/// The text itself, and its JSON, URL, base64 and hex encodings.
fn encodings(text: &str) -> [String; 7] {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let json = |text: &str| serde_json::Value::from(text).to_string().trim_matches('"').to_owned();
    let all = [
        text.to_owned(),
        json(text),
        json(&json(text)),
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
        url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
        STANDARD.encode(text),
        alloy::primitives::hex::encode(text),
    ];
    all.map(|encoding| encoding.to_ascii_lowercase())
}

#[test]
fn a_secret_is_found_in_every_encoding_of_it() {
    let needle = || vec![Needle { what: "it", text: "p@ss \"w\\rd".into(), may_be_in: &["elsewhere"] }];
    for encoding in ["P@SS \"W\\RD", r#"p@ss \"w\\rd"#, "p%40ss%20%22w%5Crd", "p%40ss+%22w%5Crd", "cEBzcyAid1xyZA=="] {
        let mut outputs = Outputs::default();
        outputs.keep("elsewhere", encoding);
        assert_eq!(outputs.leaks(&needle()), BTreeMap::new());
        outputs.keep("here", format!("before {encoding} after"));
        assert_eq!(outputs.leaks(&needle()).len(), 1, "{encoding}");
    }
}

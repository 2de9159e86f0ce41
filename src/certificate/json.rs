//! A certificate as JSON: its names, their order, and the limits of size and nesting.
//!
//! Uses nothing of this crate, so that `tests/fuzz` can include this file alone.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The only version of the format.
pub const VERSION: u64 = 1;
/// In bytes. With tries of 2^48 accounts and records a certificate has less than half of it.
pub const MAX_BYTES: usize = 64 << 10;
/// A certificate has three levels.
const MAX_DEPTH: usize = 8;
/// In characters. An error that repeats a name of the file is cut off.
const MAX_PROBLEM_CHARS: usize = 200;

/// In the order in which the members are written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateJson {
    pub version: u64,
    pub chain: ChainJson,
    pub contract: String,
    pub document: DocumentJson,
    pub record: RecordJson,
    pub block: BlockJson,
    pub state: StateJson,
    pub transaction: TransactionJson,
    pub how_to_verify: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChainJson {
    pub id: u64,
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DocumentJson {
    pub sha256: String,
    pub case_id: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordJson {
    pub registrar: String,
    pub block_number: u64,
    pub time: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockJson {
    pub number: u64,
    pub hash: String,
    pub header: String,
    pub finality: String,
    pub seen_by: u64,
    pub seen_at: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateJson {
    pub slot: String,
    pub account_proof: Vec<String>,
    pub storage_proof: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransactionJson {
    /// `null` where no endpoint had the event of the record.
    #[serde(deserialize_with = "read_required")]
    pub hash: Option<String>,
}

/// Unlike a plain `Option`, the member may not be left out.
fn read_required<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// Why a text is no certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JsonError {
    /// With its size in bytes.
    TooLarge(usize),
    TooDeep,
    UnknownVersion(u64),
    /// What serde_json says; it names an unknown or missing member.
    Malformed(String),
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(bytes) => write!(f, "it has {bytes} bytes; a certificate has at most {MAX_BYTES}"),
            Self::TooDeep => write!(f, "it is nested more than {MAX_DEPTH} levels deep"),
            Self::UnknownVersion(version) => write!(
                f,
                "it has version {version} of the format, and this program knows version {VERSION}: use a newer one"
            ),
            Self::Malformed(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for JsonError {}

#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

impl CertificateJson {
    /// # Errors
    /// When it is not a certificate of the known version.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        if text.len() > MAX_BYTES {
            return Err(JsonError::TooLarge(text.len()));
        }
        if is_too_deep(text) {
            return Err(JsonError::TooDeep);
        }
        let malformed = |error: serde_json::Error| {
            let problem = error.to_string();
            JsonError::Malformed(problem.chars().filter(|c| !c.is_control()).take(MAX_PROBLEM_CHARS).collect())
        };
        let VersionOnly { version } = serde_json::from_slice(text).map_err(malformed)?;
        if version != VERSION {
            return Err(JsonError::UnknownVersion(version));
        }
        serde_json::from_slice(text).map_err(malformed)
    }

    /// One line, with a line feed at its end.
    pub fn to_text(&self) -> String {
        // Only a map with other keys than strings, and a failing writer, would be errors.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// Counts brackets outside strings; whether the rest is JSON is not checked.
fn is_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

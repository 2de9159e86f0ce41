//! Reads answers to JSON-RPC requests as nodes, gateways and load balancers send them, which is seldom exactly as
//! JSON-RPC 2.0 has it. `answers` lists what was seen where.
//!
//! Uses nothing of this crate, so that `tests/fuzz` can include this file alone.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::fmt;

/// The deepest result in use, a receipt with its logs, has six levels.
const MAX_DEPTH: usize = 64;
/// We send one request at a time, so more answers than this are not for us.
const MAX_ANSWERS: usize = 64;
/// In bytes. More of an error message is cut off.
const MAX_MESSAGE_LEN: usize = 16 << 10;
/// In bytes. Longer ids and codes are not read.
const MAX_SCALAR_LEN: usize = 64;
/// Nesting of the `data` member in which a message is searched.
const MAX_DATA_LEVELS: usize = 4;

#[derive(Debug)]
pub enum Answer {
    Result(Box<RawValue>),
    Error(ErrorObject),
    /// An error without an id: it may concern the endpoint, but not the request.
    Unaddressed(ErrorObject),
}

#[derive(Debug)]
pub struct ErrorObject {
    /// 0 when it is missing or not a number.
    pub code: i64,
    /// Empty when there is none, not even in `data`.
    pub message: String,
    pub data: Option<Box<RawValue>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    NotJson,
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
    /// An answer to another request: the next one on this connection may be too.
    ForeignId,
    /// JSON without a result or an error.
    NoAnswer,
}

/// Finds the answer to the request `id`, in any of these: one answer, a batch in any order, several answers one after
/// the other. What follows them is ignored.
///
/// # Errors
/// When there is none.
pub fn read(body: &[u8], id: u64) -> Result<Answer, Unreadable> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\0');
    if is_too_deep(text) {
        return Err(Unreadable::TooDeep);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().map_while(Result::ok).peekable();
    values.peek().ok_or(Unreadable::NotJson)?;
    let mut without = Err(Unreadable::NoAnswer);
    for value in values.take(MAX_ANSWERS) {
        let answers = match serde_json::from_str::<Batch<'_>>(value.get()) {
            Ok(Batch(answers)) => answers,
            Err(_) => vec![value],
        };
        for answer in answers.into_iter().filter_map(read_object::<Envelope<'_>>) {
            let content = answer.content();
            match (answer.id.map(|named| is_id(named, id)), content) {
                (Some(true), Some(Content::Result(result))) => return Ok(Answer::Result(result.to_owned())),
                (Some(true), Some(Content::Error(error))) => return Ok(Answer::Error(error)),
                (None, Some(Content::Error(error))) => without = Ok(Answer::Unaddressed(error)),
                (Some(false), Some(_)) | (None, Some(Content::Result(_))) => {
                    without = without.or(Err(Unreadable::ForeignId));
                }
                (_, None) => {}
            }
        }
    }
    without
}

/// Every text in an error's `data`: some clients have their message only there.
pub fn data_text(data: &RawValue) -> String {
    let data: Value = match data.get().len() <= MAX_MESSAGE_LEN {
        true => serde_json::from_str(data.get()).unwrap_or_default(),
        false => Value::Null,
    };
    let mut texts = Vec::new();
    collect_texts(&data, MAX_DATA_LEVELS, &mut texts);
    texts.join(" ")
}

fn collect_texts<'a>(data: &'a Value, levels: usize, texts: &mut Vec<&'a str>) {
    match data {
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => texts.push(text),
        Value::Object(members) if levels > 0 => {
            members.values().for_each(|member| collect_texts(member, levels - 1, texts));
        }
        Value::Array(all) if levels > 0 => all.iter().for_each(|member| collect_texts(member, levels - 1, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Array(_) => {}
    }
}

/// The members of an answer. `jsonrpc` is often missing or wrong, and says nothing.
#[derive(Deserialize)]
struct Envelope<'a> {
    /// `None` for null too.
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    /// Beside the other members when a gateway answers for the node.
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    /// What gateways have in place of a message.
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasons: Option<&'a RawValue>,
    #[serde(borrow, default)]
    errors: Option<&'a RawValue>,
}

enum Content<'a> {
    Result(&'a RawValue),
    Error(ErrorObject),
}

impl<'a> Envelope<'a> {
    fn content(&self) -> Option<Content<'a>> {
        // Some nodes send both members always, the unused one as null or empty.
        let result = self.result.filter(|result| result.get() != "null");
        match (self.error, result) {
            (Some(error), Some(result)) if is_empty(error) => Some(Content::Result(result)),
            (Some(error), _) => Some(Content::Error(ErrorObject::read(error))),
            (None, Some(result)) => Some(Content::Result(result)),
            (None, None) => match (self.result, self.gateway_message()) {
                (Some(null), None) => Some(Content::Result(null)),
                (_, Some(message)) => {
                    Some(Content::Error(ErrorObject { code: self.code.map_or(0, read_code), message, data: None }))
                }
                (None, None) => None,
            },
        }
    }
}

impl Envelope<'_> {
    fn gateway_message(&self) -> Option<String> {
        let reasons = || self.detail.or(self.reasons).or(self.errors).map(data_text).filter(|text| !text.is_empty());
        self.message.and_then(read_string).or_else(reasons).map(cut)
    }
}

#[derive(Deserialize)]
struct ErrorMembers<'a> {
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl ErrorObject {
    /// An object, or a string in its place.
    fn read(raw: &RawValue) -> Self {
        let Some(ErrorMembers { code, message, data }) = read_object(raw) else {
            return Self { code: 0, message: read_string(raw).unwrap_or_default(), data: None };
        };
        let message = message.and_then(read_string).filter(|message| !message.is_empty());
        let message = message.unwrap_or_else(|| cut(data.map(data_text).unwrap_or_default()));
        Self { code: code.map_or(0, read_code), message, data: data.map(RawValue::to_owned) }
    }
}

/// serde would take an array for an object too.
fn read_object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// An error member that means "no error".
fn is_empty(error: &RawValue) -> bool {
    matches!(error.get(), "false" | "0" | "\"\"") || error.get().chars().all(|c| "{}[] \t\r\n".contains(c))
}

fn read_string(raw: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(raw.get()).ok().map(cut)
}

fn cut(mut message: String) -> String {
    let end = (0..=message.len().min(MAX_MESSAGE_LEN)).rev().find(|end| message.is_char_boundary(*end));
    message.truncate(end.unwrap_or_default());
    message
}

/// A number, or a string with one.
fn read_scalar(raw: &RawValue) -> Value {
    match raw.get().len() <= MAX_SCALAR_LEN {
        true => serde_json::from_str(raw.get()).unwrap_or_default(),
        false => Value::Null,
    }
}

fn read_code(raw: &RawValue) -> i64 {
    let number = match read_scalar(raw) {
        Value::Number(number) => number.as_i64().map(|code| code as f64).or(number.as_f64()),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|code| code.abs() <= f64::from(i32::MAX)).map_or(0, |code| code as i64)
}

fn is_id(raw: &RawValue, id: u64) -> bool {
    match read_scalar(raw) {
        Value::Number(number) => number.as_u64() == Some(id) || number.as_f64() == Some(id as f64),
        Value::String(text) => match text.trim().strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16) == Ok(id),
            None => text.trim().parse() == Ok(id),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Keeps a null, which an `Option` alone would take for a missing member.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// The first [`MAX_ANSWERS`] elements of an array.
struct Batch<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Batch<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BatchVisitor)
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = Batch<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of answers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < MAX_ANSWERS {
            let Some(answer) = all.next_element()? else { return Ok(Batch(kept)) };
            kept.push(answer);
        }
        while all.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Batch(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::json_rpc_answers::*, *};

    #[test]
    fn every_shape_of_an_answer_is_read() {
        for (source, body, expected) in ANSWERS {
            let actual = match read(body, ID) {
                Ok(Answer::Result(result)) => format!("result {}", result.get()),
                Ok(Answer::Error(error)) => format!("error {} {}", error.code, error.message),
                Ok(Answer::Unaddressed(error)) => format!("no id, error {} {}", error.code, error.message),
                Err(unreadable) => format!("{unreadable:?}"),
            };
            assert_eq!(actual, *expected, "{source}: {}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn nesting_batches_and_messages_are_bounded() {
        let nested = |levels| format!(r#"{{"id":7,"result":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(matches!(read(nested(MAX_DEPTH - 1).as_bytes(), ID), Ok(Answer::Result(_))));
        assert!(matches!(read(nested(MAX_DEPTH).as_bytes(), ID), Err(Unreadable::TooDeep)));
        let brackets = format!(r#"{{"id":7,"result":"{}"}}"#, "[{\\\"".repeat(1_000));
        assert!(matches!(read(brackets.as_bytes(), ID), Ok(Answer::Result(_))), "brackets in a string are text");

        let batch = |others| format!(r#"[{}{{"id":7,"result":1}}]"#, r#"{"id":8,"result":1},"#.repeat(others));
        assert!(matches!(read(batch(MAX_ANSWERS - 1).as_bytes(), ID), Ok(Answer::Result(_))));
        assert!(matches!(read(batch(MAX_ANSWERS).as_bytes(), ID), Err(Unreadable::ForeignId)));

        let long = format!(r#"{{"id":7,"error":{{"message":"{}"}}}}"#, "ä".repeat(MAX_MESSAGE_LEN));
        let Ok(Answer::Error(error)) = read(long.as_bytes(), ID) else { panic!("no error") };
        assert_eq!(error.message.len(), MAX_MESSAGE_LEN);
    }

    #[test]
    fn the_texts_of_nested_data_are_found() {
        let data = r#"{"originalError":{"code":-32000,"message":"nonce too low","data":[{"reason":"deep"}]},"n":1}"#;
        let data = RawValue::from_string(data.to_owned()).unwrap();
        assert_eq!(data_text(&data), "deep nonce too low");
    }
}

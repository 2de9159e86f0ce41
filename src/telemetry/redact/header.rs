//! Values of secret headers and fields, in header text, JSON, and Debug texts of maps.

use super::redaction::{REPLACEMENT, Redaction};

/// JSON fields whose values are removed as a whole.
const SECRET_FIELD_NAMES: [&str; 8] =
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "api-key", "apikey", "password", "auth-token"];

pub(super) fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    SECRET_FIELD_NAMES.contains(&name.strip_prefix("x-").unwrap_or(&name))
}

/// The value of the name that ends at `name_end`: the rest of the line, because cookies contain spaces.
pub(super) fn find_line_value(text: &str, name_end: usize) -> Option<Redaction<'_>> {
    value_redaction(text, value_start(text, name_end)?, line_length)
}

/// The value of the name that ends at `name_end`: one word.
pub(super) fn find_word_value(text: &str, name_end: usize) -> Option<Redaction<'_>> {
    value_redaction(text, value_start(text, name_end)?, word_length)
}

pub(super) fn find_bearer_token(text: &str, marker_end: usize) -> Option<Redaction<'_>> {
    let begin = skip_while(text, marker_end, |c| c == ' ');
    let starts = text[begin..].starts_with(char::is_alphanumeric);
    starts.then(|| value_redaction(text, ValueStart { begin, quote: None }, word_length)).flatten()
}

struct ValueStart {
    begin: usize,
    /// The opening quotation mark and the number of backslashes before it.
    quote: Option<(char, usize)>,
}

fn value_redaction(text: &str, value: ValueStart, length: fn(&str) -> usize) -> Option<Redaction<'_>> {
    let rest = &text[value.begin..];
    let length = match value.quote {
        Some((quote @ '\'', escapes)) => quoted_length(rest, quote, escapes).min(line_length(rest)),
        Some((quote, escapes)) => quoted_length(rest, quote, escapes),
        None if rest.starts_with(REPLACEMENT) => 0,
        None => length(rest),
    };
    let value_text = rest[..length].trim_end_matches(['\\', ' ', '\t']);
    (!value_text.is_empty()).then(|| Redaction::new(value.begin..value.begin + value_text.len()))
}

/// `name: value`, `name=value`, `"name":"value"`, `\"name\":\"value\"`, `("name", "value")`, `name: Some("value")`.
fn value_start(text: &str, name_end: usize) -> Option<ValueStart> {
    let (mut at, name_quoted) = match quote_at(text, name_end) {
        Some((quote, escapes, end)) => (end, Some((quote, escapes))),
        None => (name_end, None),
    };
    at = skip_while(text, at, char::is_whitespace);
    match text[at..].chars().next()? {
        ':' | '=' => {}
        ',' if name_quoted.is_some() => {}
        _ => return None,
    }
    at = skip_while(text, at + 1, |c| c.is_whitespace() || c == '>');
    let opened = skip_while(text, at, |c| c.is_ascii_alphabetic() || "[({".contains(c));
    let wrapped = opened == at || text[..opened].ends_with(['[', '(', '{']);
    // The quotation mark may close the JSON string around the text.
    let quoted = quote_at(text, opened).filter(|(quote, escapes, begin)| {
        wrapped && (name_quoted == Some((*quote, *escapes)) || !closes_json_string(&text[*begin..]))
    });
    match quoted {
        Some((quote, escapes, begin)) => Some(ValueStart { begin, quote: Some((quote, escapes)) }),
        None => Some(ValueStart { begin: at, quote: None }),
    }
}

/// Whether the quotation mark before `text` closes a JSON string.
fn closes_json_string(text: &str) -> bool {
    text.chars().next().is_none_or(|c| c.is_whitespace() || ",:}])".contains(c))
}

/// The quotation mark at `at`, the number of backslashes before it, and where it ends.
fn quote_at(text: &str, at: usize) -> Option<(char, usize, usize)> {
    let escapes = text[at..].bytes().take_while(|byte| *byte == b'\\').count();
    let quote = text[at + escapes..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
    Some((quote, escapes, at + escapes + 1))
}

fn skip_while(text: &str, from: usize, predicate: impl Fn(char) -> bool) -> usize {
    from + text[from..].find(|c| !predicate(c)).unwrap_or(text.len() - from)
}

/// Up to the closing quotation mark, or to that of the JSON string around it. An escaped mark does not close: if the
/// opening mark has no backslashes, an escaped one has 1, 3, 5, …; if it has 1, 3, 7, 11, …: each level of JSON
/// doubles them and adds one.
fn quoted_length(text: &str, quote: char, escapes: usize) -> usize {
    let mut backslashes = 0;
    for (at, c) in text.char_indices() {
        if c == quote && backslashes % (2 * (escapes + 1)) != 2 * escapes + 1 {
            return at - backslashes;
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    text.len()
}

/// Up to the end of the line or of the JSON string around it, with parameters such as `username="jo"`.
fn line_length(text: &str) -> usize {
    let mut backslashes = 0;
    let mut parameter = false;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let escaped = backslashes % 2 == 1;
        match c {
            '\n' | '\r' => return at,
            'n' | 'r' if escaped => return at - backslashes,
            '"' if parameter => parameter = false,
            '"' if !escaped => {
                if before != '=' || closes_json_string(&text[at + 1..]) {
                    return at;
                }
                parameter = true;
            }
            _ => {}
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
        before = c;
    }
    text.len()
}

/// Up to the end of a word in a sentence, list, query or JSON string.
fn word_length(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || c.is_control() || "\"'`,;&)}\\<>".contains(c)).unwrap_or(text.len())
}

//! Values behind a name that says that they are secret: header text, JSON, and Debug texts of maps.

use super::{REPLACEMENT, Redaction};

/// Names whose values go whole when they are fields of JSON.
const SECRET_FIELD_NAMES: [&str; 8] =
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "api-key", "apikey", "password", "auth-token"];

/// Whether a field of this name holds a secret.
pub(super) fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    SECRET_FIELD_NAMES.contains(&name.strip_prefix("x-").unwrap_or(&name))
}

/// The value of a name that ends here: all of its line, for cookies have spaces in them.
pub(super) fn find_line_value(text: &str, name_end: usize) -> Option<Redaction<'_>> {
    value_redaction(text, value_start(text, name_end)?, line_length)
}

/// The value of a name that ends here: one word.
pub(super) fn find_word_value(text: &str, name_end: usize) -> Option<Redaction<'_>> {
    value_redaction(text, value_start(text, name_end)?, word_length)
}

/// The word that follows.
pub(super) fn find_bearer_token(text: &str, begin: usize) -> Option<Redaction<'_>> {
    let begin = skip_while(text, begin, |c| c == ' ');
    let starts = text[begin..].starts_with(char::is_alphanumeric);
    starts.then(|| value_redaction(text, ValueStart { begin, quote: None }, word_length)).flatten()
}

/// Where a value begins, and the quotation mark it is in with the number of backslashes before it.
struct ValueStart {
    begin: usize,
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
    let shown = rest[..length].trim_end_matches(['\\', ' ', '\t']);
    (!shown.is_empty()).then(|| Redaction::new(value.begin..value.begin + shown.len()))
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
    // In a text of JSON, what follows may be its end.
    let quoted = quote_at(text, opened).filter(|(quote, escapes, begin)| {
        wrapped && (name_quoted == Some((*quote, *escapes)) || !closes_json_string(&text[*begin..]))
    });
    match quoted {
        Some((quote, escapes, begin)) => Some(ValueStart { begin, quote: Some((quote, escapes)) }),
        None => Some(ValueStart { begin: at, quote: None }),
    }
}

/// Whether the quotation mark before this closes a text of JSON.
fn closes_json_string(text: &str) -> bool {
    text.chars().next().is_none_or(|c| c.is_whitespace() || ",:}])".contains(c))
}

/// The quotation mark at this place, the backslashes before it, and where it ends.
fn quote_at(text: &str, at: usize) -> Option<(char, usize, usize)> {
    let escapes = text[at..].bytes().take_while(|byte| *byte == b'\\').count();
    let quote = text[at + escapes..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
    Some((quote, escapes, at + escapes + 1))
}

fn skip_while(text: &str, from: usize, what: impl Fn(char) -> bool) -> usize {
    from + text[from..].find(|c| !what(c)).unwrap_or(text.len() - from)
}

/// Up to the same quotation mark, or that of a text of JSON around it. An escaped one goes on: behind a mark without
/// backslashes it has 1, 3, 5, …; behind one with 1 it has 3, 7, 11, …, for each level of JSON doubles them and adds one.
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

/// Up to the end of the line, or of the text of JSON that the line is in. Parameters such as `username="jo"` belong to it.
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

/// Up to what ends a word in a sentence, a list, a query or a text of JSON.
fn word_length(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || c.is_control() || "\"'`,;&)}\\<>".contains(c)).unwrap_or(text.len())
}

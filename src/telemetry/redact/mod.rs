//! The redactor: every log line, span, event and answer passes through it before it leaves the process.
//!
//! # Removed
//!
//! | what | where | becomes |
//! |---|---|---|
//! | configured secrets, in any encoding of [`encodings`] | anywhere, also inside words | `[redacted]` |
//! | URLs with user, path or query | anywhere | `https://host/[redacted]`, without port |
//! | URLs whose host may be part of a password | anywhere | `https://[redacted]` |
//! | URLs in JSON (`:\/\/`) or a query (`%3A%2F%2F`) | anywhere | `https:\/\/[redacted]` |
//! | e-mail addresses, `user:password@host` | anywhere, also with `%40` | `[redacted]` |
//! | values of `authorization`, `cookie`, `set-cookie` | header text, JSON, Debug text | `authorization: [redacted]` |
//! | values of `x-api-key`, `api-key`, `password` and similar | same; unquoted, one word | `password=[redacted]` |
//! | the word after `Bearer` | anywhere | `Bearer [redacted]` |
//! | tokens of callers (`rgs_…`), JSON Web Tokens | anywhere | `[redacted]` |
//!
//! A DSN is a URL with a user, a PostgreSQL URL one with user and password: neither needs a pattern of its own.
//!
//! # Kept
//!
//! Hashes, addresses, case and user ids, CIDs, versions (also `registrar@0.1.0`), module paths, times and socket
//! addresses. Private keys look like hashes, so only configured ones are removed. A URL is kept if it is only scheme
//! and host, if it is an explorer page of a transaction, address or block, or if it is on loopback and its path is
//! plain words (`/metrics`).
//!
//! # Implementation
//!
//! One automaton finds secrets and the markers of all patterns (`://`, `@`, `bearer `, …) in one pass, ignoring case.
//! Most lines have none and are returned unchanged. At a marker, its pattern inspects the surrounding text and
//! returns the range to remove. Redacted JSON is still JSON, and redaction is idempotent.
//!
//! The patterns are parsers and not regular expressions. What they match is not regular: a quoted value ends at a
//! quotation mark with the same level of JSON escapes, a host in brackets must parse as an address, and an e-mail
//! address extends backwards from its `@`. A `RegexSet` of simplified patterns over each line took 2 to 4 times as
//! long as the automaton, which the secrets need anyway (clean line of 432 bytes, Unicode classes, three runs on a
//! busy machine).

mod email;
mod header;
mod redaction;
mod secrets;
#[cfg(test)]
mod tests;
mod token;
mod url;

pub(crate) use redaction::REPLACEMENT;
pub(crate) use secrets::Secrets;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use parking_lot::RwLock;
use redaction::Redaction;
use secrets::encodings;
use std::{borrow::Cow, collections::BTreeSet, fmt, ops::Range, sync::LazyLock};

const PATTERN_MARKERS: [(&str, Pattern); 17] = [
    ("://", Pattern::Url),
    (r":\/\/", Pattern::EncodedUrl),
    // JSON within JSON.
    (r":\\/\\/", Pattern::EncodedUrl),
    ("%3a%2f%2f", Pattern::EncodedUrl),
    ("@", Pattern::Email),
    ("%40", Pattern::Email),
    ("authorization", Pattern::HeaderLine),
    ("cookie", Pattern::HeaderLine),
    ("api-key", Pattern::HeaderWord),
    ("api_key", Pattern::HeaderWord),
    ("apikey", Pattern::HeaderWord),
    ("auth-token", Pattern::HeaderWord),
    ("password", Pattern::HeaderWord),
    ("bearer ", Pattern::Bearer),
    ("bearer%20", Pattern::Bearer),
    ("rgs_", Pattern::Token),
    ("eyj", Pattern::Jwt),
];

#[derive(Clone, Copy)]
enum Pattern {
    Secret,
    /// A secret of digits only, kept where it is part of a number.
    NumericSecret,
    Url,
    EncodedUrl,
    Email,
    HeaderLine,
    HeaderWord,
    Bearer,
    Token,
    Jwt,
}

#[derive(Clone)]
pub(crate) struct Redactor {
    /// `None` if there are too many secrets for an automaton: then every text is replaced as a whole.
    automaton: Option<AhoCorasick>,
    patterns: Vec<Pattern>,
}

impl Redactor {
    /// Secrets of fewer than six characters are left to the patterns, because they are part of many words.
    pub(crate) fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut literals = BTreeSet::new();
        for secret in secrets {
            literals.extend(encodings(secret.as_ref()));
        }
        let pattern_of = |literal: &String| {
            if literal.bytes().all(|b| b.is_ascii_digit()) { Pattern::NumericSecret } else { Pattern::Secret }
        };
        let patterns = literals.iter().map(pattern_of).chain(PATTERN_MARKERS.map(|(_, pattern)| pattern)).collect();
        let markers = literals.iter().map(String::as_str).chain(PATTERN_MARKERS.map(|(marker, _)| marker));
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(markers)
            .ok();
        Self { automaton, patterns }
    }

    /// Borrows the text if there is nothing to remove.
    pub(crate) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(automaton) = &self.automaton else { return Cow::Borrowed(REPLACEMENT) };
        let mut clean = String::new();
        let (mut done, mut from) = (0, 0);
        while let Some(found) = automaton.find(Input::new(text).span(from..text.len())) {
            let pattern = self.patterns.get(found.pattern().as_usize());
            match pattern.and_then(|pattern| pattern.find(text, found.range(), done)) {
                Some(Redaction { range, kept_host }) => {
                    let start = skip_json_escape(text, range.start).clamp(done, range.end);
                    clean.push_str(&text[done..start]);
                    if !kept_host.is_empty() && !self.would_change(kept_host) {
                        clean.push_str(kept_host);
                        clean.push('/');
                    }
                    clean.push_str(REPLACEMENT);
                    done = range.end;
                    from = done;
                }
                // Another marker may begin inside this one.
                None => from = found.start() + 1,
            }
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        clean.push_str(&text[done..]);
        Cow::Owned(clean)
    }

    /// Redacts every string and key. The value of a secret header or field is replaced as a whole.
    pub(crate) fn redact_json(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => {
                if let Cow::Owned(clean) = self.redact(text) {
                    *text = clean;
                }
            }
            serde_json::Value::Array(all) => all.iter_mut().for_each(|value| self.redact_json(value)),
            serde_json::Value::Object(fields) => {
                let names: Vec<String> = fields.keys().filter(|name| self.would_change(name)).cloned().collect();
                for name in names {
                    if let Some(value) = fields.remove(&name) {
                        fields.insert(self.redact(&name).into_owned(), value);
                    }
                }
                for (name, value) in fields {
                    if header::is_secret_field(name) && !value.is_null() {
                        *value = REPLACEMENT.into();
                    } else {
                        self.redact_json(value);
                    }
                }
            }
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
    }

    fn would_change(&self, text: &str) -> bool {
        matches!(self.redact(text), Cow::Owned(_))
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(..)")
    }
}

impl Pattern {
    /// What to remove around a marker; the range does not begin before `floor`.
    fn find<'t>(self, text: &'t str, marker: Range<usize>, floor: usize) -> Option<Redaction<'t>> {
        match self {
            Self::Secret => Some(Redaction::new(marker)),
            Self::NumericSecret => (!is_within_number(text, &marker)).then(|| Redaction::new(marker)),
            Self::Url => url::find(text, marker.end),
            Self::EncodedUrl => url::find_whole(text, marker.end),
            Self::Email => email::find(text, marker, floor),
            Self::HeaderLine => header::find_line_value(text, marker.end),
            Self::HeaderWord => header::find_word_value(text, marker.end),
            Self::Bearer => header::find_bearer_token(text, marker.end),
            Self::Token => token::find_token(text, marker),
            Self::Jwt => token::find_jwt(text, marker),
        }
    }
}

/// Whether the digits are part of a JSON number, a time or a decimal, which a password such as `123456` must not
/// break.
fn is_within_number(text: &str, range: &Range<usize>) -> bool {
    let before = text[..range.start].chars().next_back();
    let after = text[range.end..].chars().next();
    before.is_some_and(|c| c.is_ascii_digit() || ".:,[-+".contains(c))
        || after.is_some_and(|c| c.is_ascii_digit() || c == '.')
}

/// Moves `start` behind a JSON escape such as `\n` that it would split.
fn skip_json_escape(text: &str, start: usize) -> usize {
    let backslashes = text[..start].bytes().rev().take_while(|byte| *byte == b'\\').count();
    if backslashes % 2 == 0 {
        return start;
    }
    let escape = match text[start..].chars().next() {
        Some('u') => 5,
        Some(c) => c.len_utf8(),
        None => 0,
    };
    if text.is_char_boundary(start + escape) { start + escape } else { start }
}

struct InstalledRedactor {
    secrets: BTreeSet<String>,
    redactor: Redactor,
}

static INSTALLED: LazyLock<RwLock<InstalledRedactor>> = LazyLock::new(|| {
    let secrets = BTreeSet::new();
    RwLock::new(InstalledRedactor { redactor: Redactor::new(&secrets), secrets })
});

/// Adds secrets to those installed before.
pub(crate) fn install(secrets: impl IntoIterator<Item = String>) {
    let mut installed = INSTALLED.write();
    installed.secrets.extend(secrets);
    installed.redactor = Redactor::new(&installed.secrets);
}

/// Borrows the text if there is nothing to remove.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    INSTALLED.read().redactor.redact(text)
}

pub(crate) fn redact_json(value: &mut serde_json::Value) {
    INSTALLED.read().redactor.redact_json(value);
}

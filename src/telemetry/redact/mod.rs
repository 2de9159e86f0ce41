//! The one redactor: what may hold a secret goes through it before it leaves in a log line, a span, an event or an answer.
//!
//! # What goes
//!
//! | what | where | becomes |
//! |---|---|---|
//! | the secrets of the settings | anywhere, also inside other words, and as other texts show them ([`appearances`]) | `[redacted]` |
//! | URLs with user, path or query | anywhere | `https://host/[redacted]`, without a port; and without the host where it cannot be told from a password |
//! | the same as JSON (`:\/\/`) or a query (`%3A%2F%2F`) shows them | anywhere | `https:\/\/[redacted]` |
//! | e-mail addresses, and `user:password@host` without a scheme | anywhere, also with `%40` | `[redacted]` |
//! | the value of `authorization`, `cookie`, `set-cookie` | behind the name and `:` or `=`, as header text, JSON or Debug text | `authorization: [redacted]` |
//! | the value of `x-api-key`, `api-key`, `password` and their likes | the same, up to the word's end where it has no quotes | `password=[redacted]` |
//! | what follows `Bearer` | anywhere | `Bearer [redacted]` |
//!
//! A DSN is a URL with a user, a PostgreSQL URL one with a user and a password; no rule of their own is needed.
//!
//! # What stays
//!
//! Hashes, addresses, case and user ids, CIDs, versions (`registrar@0.1.0` too), module paths, times and socket addresses. A
//! private key looks like a hash: only the configured ones can go. A URL stays when it is only scheme and host; when it is an
//! explorer's page of a transaction, an address or a block; and on loopback when its path is plain words (`/metrics`).
//!
//! # How
//!
//! One automaton finds secrets and the marks of the patterns (`://`, `@`, `bearer `, …) in one pass, letters in either case.
//! A line without any is given back as it came, and most lines are such. At a mark, its rule looks at the neighbourhood and says
//! what of it goes. What is taken from a text of JSON leaves a text of JSON, and what was redacted may be redacted again.

mod email;
mod header;
mod secrets;
#[cfg(test)]
mod tests;
mod url;

pub use secrets::Secrets;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use secrets::encodings;
use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    ops::Range,
    sync::{LazyLock, PoisonError, RwLock},
};

/// What stands for whatever went.
pub const REPLACEMENT: &str = "[redacted]";

/// What gives a pattern away, and the rule that looks at its neighbourhood.
const PATTERN_MARKERS: [(&str, Pattern); 15] = [
    ("://", Pattern::Url),
    (r":\/\/", Pattern::EncodedUrl),
    // The same in a text of JSON within one.
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
];

#[derive(Clone, Copy)]
enum Pattern {
    /// A secret itself: it goes.
    Secret,
    /// A secret of digits alone: it goes where it is not part of a number.
    NumericSecret,
    Url,
    EncodedUrl,
    Email,
    HeaderLine,
    HeaderWord,
    Bearer,
}

/// A part of a text that goes.
struct Redaction<'t> {
    range: Range<usize>,
    /// What of it stays: a URL's host.
    kept_host: &'t str,
}

impl Redaction<'_> {
    fn new(range: Range<usize>) -> Self {
        Self { range, kept_host: "" }
    }
}

/// Takes secrets out of texts: the patterns, and these secrets.
#[derive(Clone)]
pub struct Redactor {
    /// `None` when there are more secrets than an automaton can hold: then nothing is known to be clean.
    automaton: Option<AhoCorasick>,
    patterns: Vec<Pattern>,
}

impl Redactor {
    /// A redactor for these secrets besides the patterns. Those of fewer than six characters are left to the patterns, for they
    /// stand in many a word.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut literals = BTreeSet::new();
        for secret in secrets {
            literals.extend(encodings(secret.as_ref()));
        }
        let rule = |literal: &String| {
            if literal.bytes().all(|b| b.is_ascii_digit()) { Pattern::NumericSecret } else { Pattern::Secret }
        };
        let rules = literals.iter().map(rule).chain(PATTERN_MARKERS.map(|(_, rule)| rule)).collect();
        let patterns = literals.iter().map(String::as_str).chain(PATTERN_MARKERS.map(|(mark, _)| mark));
        let marks = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns)
            .ok();
        Self { automaton: marks, patterns: rules }
    }

    /// The text without what may not leave; borrowed when there is nothing of it.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(marks) = &self.automaton else { return Cow::Borrowed(REPLACEMENT) };
        let mut clean = String::new();
        let (mut done, mut from) = (0, 0);
        while let Some(found) = marks.find(Input::new(text).span(from..text.len())) {
            let hidden =
                self.patterns.get(found.pattern().as_usize()).and_then(|rule| rule.find(text, found.range(), done));
            match hidden {
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
                // Another mark may begin inside of this one.
                None => from = found.start() + 1,
            }
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        clean.push_str(&text[done..]);
        Cow::Owned(clean)
    }

    /// The same for every text in a value. What stands under a header's name goes whole.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
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
    /// What goes around a mark; nothing of it begins before `floor`.
    fn find<'t>(self, text: &'t str, mark: Range<usize>, floor: usize) -> Option<Redaction<'t>> {
        match self {
            Self::Secret => Some(Redaction::new(mark)),
            Self::NumericSecret => (!is_within_number(text, &mark)).then(|| Redaction::new(mark)),
            Self::Url => url::find(text, mark.end),
            Self::EncodedUrl => url::find_whole(text, mark.end),
            Self::Email => email::find(text, mark, floor),
            Self::HeaderLine => header::find_line_value(text, mark.end),
            Self::HeaderWord => header::find_word_value(text, mark.end),
            Self::Bearer => header::find_bearer_token(text, mark.end),
        }
    }
}

/// Whether these digits stand where JSON, a time or a decimal has digits: a password such as `123456` must break none of them.
fn is_within_number(text: &str, range: &Range<usize>) -> bool {
    let before = text[..range.start].chars().next_back();
    let after = text[range.end..].chars().next();
    before.is_some_and(|c| c.is_ascii_digit() || ".:,[-+".contains(c))
        || after.is_some_and(|c| c.is_ascii_digit() || c == '.')
}

/// Where a text begins whose first letters may belong to an escape of JSON, as the `n` of `\n`, which must not be torn apart.
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

/// A piece of a URL or a header that is a word and no key: `base-sepolia`, `jsonrpc`. Whatever has a digit or a capital may be one.
fn is_plain_word(text: &str) -> bool {
    const MAX_PLAIN_WORD_LEN: usize = 20;
    text.len() <= MAX_PLAIN_WORD_LEN && text.bytes().all(|b| b.is_ascii_lowercase() || b"-_.".contains(&b))
}

struct InstalledRedactor {
    secrets: BTreeSet<String>,
    redactor: Redactor,
}

static INSTALLED: LazyLock<RwLock<InstalledRedactor>> = LazyLock::new(|| {
    let secrets = BTreeSet::new();
    RwLock::new(InstalledRedactor { redactor: Redactor::new(&secrets), secrets })
});

/// From now on, these secrets are taken out of every text too, besides those that were installed before.
pub fn install(secrets: impl IntoIterator<Item = String>) {
    let mut installed = INSTALLED.write().unwrap_or_else(PoisonError::into_inner);
    installed.secrets.extend(secrets);
    installed.redactor = Redactor::new(&installed.secrets);
}

/// The text without what may not leave this process; borrowed when there is nothing of it.
pub fn redact(text: &str) -> Cow<'_, str> {
    INSTALLED.read().unwrap_or_else(PoisonError::into_inner).redactor.redact(text)
}

/// The same for every text in a value. What stands under a header's name goes whole.
pub fn redact_json(value: &mut serde_json::Value) {
    INSTALLED.read().unwrap_or_else(PoisonError::into_inner).redactor.redact_json(value);
}

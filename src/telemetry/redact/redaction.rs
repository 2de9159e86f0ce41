use std::ops::Range;

/// Replaces whatever is removed.
pub(crate) const REPLACEMENT: &str = "[redacted]";

/// A part of a text to remove.
pub(super) struct Redaction<'t> {
    pub(super) range: Range<usize>,
    /// A part that stays: the host of a URL.
    pub(super) kept_host: &'t str,
}

impl Redaction<'_> {
    pub(super) fn new(range: Range<usize>) -> Self {
        Self { range, kept_host: "" }
    }
}

/// A part of a URL or header that is a word and not a key: `base-sepolia`, `jsonrpc`. A digit or capital may be of a
/// key.
pub(super) fn is_plain_word(text: &str) -> bool {
    const MAX_PLAIN_WORD_LEN: usize = 20;
    text.len() <= MAX_PLAIN_WORD_LEN && text.bytes().all(|b| b.is_ascii_lowercase() || b"-_.".contains(&b))
}

//! Short forms of values for people.

/// The ends of a hash, enough to recognise it.
pub(super) fn shorten_hash(hash: &str) -> String {
    match (hash.get(..10), hash.get(hash.len().saturating_sub(6)..)) {
        (Some(head), Some(tail)) if hash.len() > 20 => format!("{head}…{tail}"),
        _ => hash.to_owned(),
    }
}

pub(super) fn format_confirmations(count: u64) -> String {
    if count == 1 { "1 confirmation".to_owned() } else { format!("{count} confirmations") }
}

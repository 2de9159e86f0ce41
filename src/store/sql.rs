//! Fragments of SQL: conditions on states, and lists of placeholders for many rows.

use crate::registration::StateEvent;
use std::fmt::Write;

/// Few sizes make few different statements, so that each is prepared once and cached.
const CHUNK_SIZES: [usize; 4] = [128, 32, 8, 1];

/// The states from which an event may move a registration, as a condition.
pub(super) fn state_guard(event: StateEvent) -> String {
    let codes: Vec<_> = event.sources().map(|state| format!("'{}'", state.code())).collect();
    format!("state IN ({})", codes.join(", "))
}

pub(super) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = CHUNK_SIZES.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

/// `($1, $2), ($3, $4)` for two rows of two columns, counting from `first`.
pub(super) fn value_placeholders(first: usize, rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        text.push_str(&placeholders(first + row * columns, columns));
        text.push(')');
    }
    text
}

/// `$3, $4, $5` for three values, counting from `first`.
pub(super) fn placeholders(first: usize, count: usize) -> String {
    let mut text = String::with_capacity(count * 6);
    for number in first..first + count {
        let comma = if number == first { "" } else { ", " };
        // Writing into a String does not fail.
        let _ = write!(text, "{comma}${number}");
    }
    text
}

/// The statement with `?` instead of `$1`, `$2` and so on, for SQLite; `None` if its parameters are not in order, each
/// once. sqlx looks up the name of each numbered parameter in a list, so that their cost grows with the square of
/// their number: a row of 15 columns among 128 takes four times as long to bind.
pub(super) fn with_positional_parameters(sql: &str) -> Option<String> {
    // A few are looked up faster than the statement is rewritten.
    if !sql.contains("$9") {
        return None;
    }
    let mut text = String::with_capacity(sql.len());
    let (mut rest, mut next) = (sql, 1);
    while let Some(at) = rest.find(['$', '\'']) {
        let (before, found) = rest.split_at(at);
        text.push_str(before);
        rest = if let Some(literal) = found.strip_prefix('\'') {
            let (literal, after) = literal.split_once('\'')?;
            text.push('\'');
            text.push_str(literal);
            text.push('\'');
            after
        } else {
            let digits = found[1..].bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = found[1..].split_at(digits);
            if number.parse() != Ok(next) {
                return None;
            }
            next += 1;
            text.push('?');
            after
        };
    }
    text.push_str(rest);
    (next > 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_positional_only_in_order_and_outside_of_literals() {
        for (sql, expected) in [
            ("SELECT 1", None),
            ("UPDATE t SET a = $1 WHERE b IN ($2, $3)", None),
            (
                "UPDATE t SET a = '$9' || $1 WHERE b = ''' $1' AND c IN ($2, $3)",
                Some("UPDATE t SET a = '$9' || ? WHERE b = ''' $1' AND c IN (?, ?)"),
            ),
            ("SELECT '$9', $2, $1", None),
            ("SELECT '$9', $1, $1", None),
            ("SELECT '$9', $, $1", None),
            ("SELECT '$9', 'open, $1", None),
        ] {
            assert_eq!(with_positional_parameters(sql).as_deref(), expected, "{sql}");
        }
        let many = with_positional_parameters(&value_placeholders(1, 128, 15)).unwrap();
        assert_eq!((many.matches('?').count(), many.contains('$')), (1920, false));
    }

    #[test]
    fn placeholders_are_numbered_consecutively() {
        assert_eq!(value_placeholders(1, 2, 2), "($1, $2), ($3, $4)");
        assert_eq!(placeholders(3, 3), "$3, $4, $5");
        assert_eq!(placeholders(1, 0), "");
    }

    #[test]
    fn chunks_cover_every_row_once_in_order() {
        let rows: Vec<usize> = (0..301).collect();
        let sizes: Vec<usize> = chunks(&rows).map(<[usize]>::len).collect();
        assert_eq!(sizes, [128, 128, 32, 8, 1, 1, 1, 1, 1]);
        assert_eq!(chunks(&rows).flatten().copied().collect::<Vec<_>>(), rows);
    }
}

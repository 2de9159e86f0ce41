//! Fragments of SQL: conditions on states, and lists of placeholders for many rows.

use crate::registration::StateEvent;
use std::fmt::Write;

/// [`unindexed`], of the state of a row that is found by its id or its transaction: in the index by state PostgreSQL would
/// read every version of a row that had the state, until they are vacuumed.
pub(super) const UNINDEXED_STATE: &str = "(state || '')";

/// An expression keeps the planners from an index that they would scan for rows of any age.
pub(super) fn unindexed(column: &str) -> String {
    format!("({column} || '')")
}

/// The states from which an event may move a registration, as a condition.
pub(super) fn state_guard(event: StateEvent) -> String {
    let codes: Vec<_> = event.sources().map(|state| format!("'{}'", state.code())).collect();
    format!("{UNINDEXED_STATE} IN ({})", codes.join(", "))
}

/// A list in parts of at most [`MAX_PADDED_ROWS`], each with its last element again up to a power of two: few sizes make
/// few different statements, so that each is prepared once and cached.
pub(super) fn chunks<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> {
    list.chunks(MAX_PADDED_ROWS).map(|part| {
        let padding = part.last().into_iter().cycle().take(part.len().next_power_of_two() - part.len());
        part.iter().chain(padding).cloned().collect()
    })
}

/// An `INSERT` of rows with the same columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct InsertSql {
    /// `INSERT INTO t (a, b)`.
    pub(super) into: &'static str,
    pub(super) columns: usize,
    /// What follows the rows.
    pub(super) then: &'static str,
    /// Whether a row that is there already is left out.
    pub(super) skips_known: bool,
}

/// Rows that one statement inserts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InsertChunk {
    /// Of the list.
    pub(super) rows: usize,
    /// With the last row again, so that few different statements are prepared.
    pub(super) padded_to: usize,
}

/// Powers of two are few different sizes, and few statements for any number.
const MAX_INSERT_ROWS: usize = 512;
/// The same for rows of many columns.
const MAX_PADDED_ROWS: usize = 128;

impl InsertSql {
    /// How a server inserts this many rows.
    pub(super) fn chunks(&self, mut count: usize) -> impl Iterator<Item = InsertChunk> {
        let skips_known = self.skips_known;
        std::iter::from_fn(move || {
            let chunk = match count {
                0 => return None,
                _ if skips_known => {
                    let rows = count.min(MAX_PADDED_ROWS);
                    InsertChunk { rows, padded_to: rows.next_power_of_two() }
                }
                _ => {
                    let rows = (1 << count.ilog2()).min(MAX_INSERT_ROWS);
                    InsertChunk { rows, padded_to: rows }
                }
            };
            count -= chunk.rows;
            Some(chunk)
        })
    }

    pub(super) fn for_rows(&self, rows: usize) -> String {
        format!("{} VALUES {}{}", self.into, value_placeholders(1, rows, self.columns), self.then)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_has_few_statements_and_few_sizes() {
        let sizes = |skips_known, count| {
            let insert = InsertSql { into: "", columns: 1, then: "", skips_known };
            insert.chunks(count).map(|chunk| (chunk.rows, chunk.padded_to)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(true, 60), [(60, 64)]);
        assert_eq!(sizes(true, 129), [(128, 128), (1, 1)]);
        assert_eq!(sizes(false, 616), [(512, 512), (64, 64), (32, 32), (8, 8)]);
        assert_eq!(sizes(false, 1_025), [(512, 512), (512, 512), (1, 1)]);
        assert!(sizes(true, 0).is_empty() && sizes(false, 0).is_empty());
    }

    #[test]
    fn placeholders_are_numbered_consecutively() {
        assert_eq!(value_placeholders(1, 2, 2), "($1, $2), ($3, $4)");
        assert_eq!(placeholders(3, 3), "$3, $4, $5");
        assert_eq!(placeholders(1, 0), "");
    }

    #[test]
    fn chunks_cover_every_element_in_order_and_have_few_sizes() {
        let list: Vec<usize> = (0..301).collect();
        let parts: Vec<_> = chunks(&list).collect();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [128, 128, 64]);
        assert!(parts[2][45..].iter().all(|padding| *padding == 300));
        let mut elements = parts.concat();
        elements.dedup();
        assert_eq!(elements, list);
        assert_eq!(chunks(&list[..0]).count(), 0);
    }
}

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
    chunk_sizes(rows.len()).map(move |size| {
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        chunk
    })
}

pub(super) fn chunk_sizes(mut count: usize) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let size = CHUNK_SIZES.into_iter().find(|size| *size <= count)?;
        count -= size;
        Some(size)
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
}

impl InsertSql {
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

//! A statement with its values, and the rows that it returns: the same on both engines. `$1` is the first value, and may
//! occur more than once.

use super::StoreError;
use futures_util::future::BoxFuture;
use sqlx::Error;
use std::{borrow::Cow, fmt};

/// The value of a parameter. Even `NULL` has the type of its column, which PostgreSQL asks for.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Integer(Option<i64>),
    Text(Option<Cow<'static, str>>),
    Bytes(Option<Vec<u8>>),
}

#[derive(Clone, Debug)]
#[must_use]
pub(super) struct Query {
    pub(super) sql: Cow<'static, str>,
    pub(super) values: Vec<Value>,
}

/// What a statement returned.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// Rows that it inserted, updated or deleted.
    pub(super) affected: u64,
}

/// Where a statement runs.
pub(super) trait Database<'c> {
    fn run<'e>(self, query: Query) -> BoxFuture<'e, Result<Answer, Error>>
    where
        'c: 'e;
}

pub(super) fn query(sql: impl Into<Cow<'static, str>>) -> Query {
    Query { sql: sql.into(), values: Vec::new() }
}

impl Query {
    /// The value of the next parameter.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Returns the number of affected rows.
    pub(super) async fn execute<'c>(self, on: impl Database<'c>) -> Result<u64, Error> {
        Ok(on.run(self).await?.affected)
    }

    pub(super) async fn fetch_all<'c>(self, on: impl Database<'c>) -> Result<Vec<Row>, Error> {
        Ok(on.run(self).await?.rows)
    }

    /// The first row.
    pub(super) async fn fetch_optional<'c>(self, on: impl Database<'c>) -> Result<Option<Row>, Error> {
        Ok(on.run(self).await?.rows.into_iter().next())
    }

    pub(super) async fn fetch_one<'c>(self, on: impl Database<'c>) -> Result<Row, Error> {
        self.fetch_optional(on).await?.ok_or(Error::RowNotFound)
    }
}

macro_rules! value_from {
    ($type:ty as $kind:ident, $value:ident => $encoded:expr) => {
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$kind(Some($encoded))
            }
        }

        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$kind(value.map(|$value| $encoded))
            }
        }
    };
}

pub(super) use value_from;

value_from!(i64 as Integer, number => number);
value_from!(String as Text, text => text.into());
value_from!(&'static str as Text, text => text.into());
value_from!(Vec<u8> as Bytes, bytes => bytes);

/// A row. Texts and bytes of all columns are in one buffer.
#[derive(Clone, Default)]
pub(super) struct Row {
    columns: Vec<Column>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Column {
    Null,
    Integer(i64),
    Real(f64),
    Text { start: usize, end: usize },
    Bytes { start: usize, end: usize },
}

/// The value of a column.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum ColumnValue<'r> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'r str),
    Bytes(&'r [u8]),
}

/// A type that a column can be read as.
pub(super) trait FromColumn<'r>: Sized {
    /// `None` if the column holds something else.
    fn from_column(value: ColumnValue<'r>) -> Option<Self>;
}

impl fmt::Debug for Row {
    /// A row may hold what callers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} columns)", self.columns.len())
    }
}

impl Row {
    pub(super) fn with_capacity(columns: usize) -> Self {
        Self { columns: Vec::with_capacity(columns), buffer: Vec::new() }
    }

    pub(super) fn push_null(&mut self) {
        self.columns.push(Column::Null);
    }

    pub(super) fn push_integer(&mut self, number: i64) {
        self.columns.push(Column::Integer(number));
    }

    pub(super) fn push_real(&mut self, number: f64) {
        self.columns.push(Column::Real(number));
    }

    pub(super) fn push_text(&mut self, text: &[u8]) {
        let (start, end) = self.append(text);
        self.columns.push(Column::Text { start, end });
    }

    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        let (start, end) = self.append(bytes);
        self.columns.push(Column::Bytes { start, end });
    }

    fn append(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        (start, self.buffer.len())
    }

    /// Reads a column by its position, from 0.
    pub(super) fn get<'r, T: FromColumn<'r>>(&'r self, index: usize) -> Result<T, StoreError> {
        let value = self.column(index).ok_or_else(|| StoreError::corrupt(format!("a row has no column {index}")))?;
        T::from_column(value).ok_or_else(|| StoreError::corrupt(format!("column {index} has another type")))
    }

    /// `None` without such a column, and for a text that is not UTF-8.
    fn column(&self, index: usize) -> Option<ColumnValue<'_>> {
        Some(match *self.columns.get(index)? {
            Column::Null => ColumnValue::Null,
            Column::Integer(number) => ColumnValue::Integer(number),
            Column::Real(number) => ColumnValue::Real(number),
            Column::Text { start, end } => ColumnValue::Text(std::str::from_utf8(self.buffer.get(start..end)?).ok()?),
            Column::Bytes { start, end } => ColumnValue::Bytes(self.buffer.get(start..end)?),
        })
    }
}

macro_rules! from_column {
    ($type:ty, $kind:ident($value:ident) => $decoded:expr) => {
        impl<'r> FromColumn<'r> for $type {
            fn from_column(value: ColumnValue<'r>) -> Option<Self> {
                if let ColumnValue::$kind($value) = value { Some($decoded) } else { None }
            }
        }
    };
}

from_column!(i64, Integer(number) => number);
from_column!(f64, Real(number) => number);
from_column!(bool, Integer(number) => number != 0);
from_column!(&'r str, Text(text) => text);
from_column!(String, Text(text) => text.to_owned());
from_column!(&'r [u8], Bytes(bytes) => bytes);
from_column!(Vec<u8>, Bytes(bytes) => bytes.to_vec());

impl<'r, T: FromColumn<'r>> FromColumn<'r> for Option<T> {
    fn from_column(value: ColumnValue<'r>) -> Option<Self> {
        if value == ColumnValue::Null { Some(None) } else { T::from_column(value).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_read_as_what_it_holds_and_as_nothing_else() {
        let mut row = Row::with_capacity(5);
        row.push_text("ä".as_bytes());
        row.push_null();
        row.push_bytes(&[1, 2]);
        row.push_integer(-3);
        row.push_text(&[0xff]);
        assert_eq!(row.get::<String>(0).unwrap(), "ä");
        assert_eq!(row.get::<Option<&str>>(0).unwrap(), Some("ä"));
        assert_eq!(row.get::<Option<i64>>(1).unwrap(), None);
        assert_eq!(row.get::<&[u8]>(2).unwrap(), [1, 2]);
        assert_eq!(row.get::<i64>(3).unwrap(), -3);
        assert!(row.get::<bool>(3).unwrap());
        for wrong in [row.get::<i64>(0).is_err(), row.get::<i64>(1).is_err(), row.get::<String>(2).is_err()] {
            assert!(wrong);
        }
        assert!(row.get::<String>(4).is_err(), "no UTF-8");
        assert!(row.get::<i64>(5).is_err(), "no column");
        assert_eq!(format!("{row:?}"), "Row(5 columns)");
    }
}

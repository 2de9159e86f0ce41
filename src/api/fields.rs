//! The fields of a request by name, and how many of them an error can name.

use std::fmt;

/// Of the names and problems of documents that an error lists one by one, so that its trailers stay under 4 KiB.
const MAX_LISTED_BYTES: usize = 800;
/// Of the indexes that it names otherwise, for each field.
const MAX_INDEXES_CHARS: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Of(&'static str),
    OfDocument { index: usize, name: &'static str },
}

impl From<&'static str> for Field {
    fn from(name: &'static str) -> Self {
        Self::Of(name)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(name) => f.write_str(name),
            Self::OfDocument { index, name } => write!(f, "documents[{index}].{name}"),
        }
    }
}

/// As many as fit one by one, and the others in one entry.
pub(super) fn shown_fields(fields: &[(Field, String)]) -> Vec<(Field, String)> {
    let mut bytes = 0;
    let fits = |(field, problem): &&(Field, String)| {
        bytes += field.to_string().len() + problem.len();
        // A request has few fields beside those of its documents.
        matches!(field, Field::Of(_)) || bytes <= MAX_LISTED_BYTES
    };
    let listed = fields.iter().take_while(fits).count().max(1);
    let (listed, others) = fields.split_at(listed.min(fields.len()));
    let mut shown = listed.to_vec();
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(|(field, _)| *field).collect();
        shown.push((
            Field::Of("documents"),
            format!("has {} more invalid fields: {}", others.len(), summarize(&others)),
        ));
    }
    shown
}

/// `document_hash of 4-1000; case_id of 7, 9`.
fn summarize(fields: &[Field]) -> String {
    let mut by_name: Vec<(&'static str, Vec<usize>)> = Vec::new();
    for field in fields {
        let (name, index) = match *field {
            Field::Of(name) => (name, None),
            Field::OfDocument { index, name } => (name, Some(index)),
        };
        match by_name.iter_mut().find(|(known, _)| *known == name) {
            Some((_, indexes)) => indexes.extend(index),
            None => by_name.push((name, index.into_iter().collect())),
        }
    }
    let describe = |(name, indexes): &(&str, Vec<usize>)| match indexes.is_empty() {
        true => (*name).to_owned(),
        false => format!("{name} of {}", index_ranges(indexes, MAX_INDEXES_CHARS)),
    };
    by_name.iter().map(describe).collect::<Vec<_>>().join("; ")
}

/// `3, 5-7, 9`, or as many of these as fit and `and 12 more`. The indexes are in ascending order.
pub(super) fn index_ranges(indexes: &[usize], max_chars: usize) -> String {
    let mut text = String::new();
    let mut rest = indexes;
    while let Some(&first) = rest.first() {
        let length = rest.iter().zip(first..).take_while(|(index, expected)| *index == expected).count();
        let range = if length > 1 { format!("{first}-{}", first + length - 1) } else { first.to_string() };
        if text.len() + range.len() > max_chars {
            return format!("{text} and {} more", rest.len());
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&range);
        rest = &rest[length..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_named_as_ranges() {
        for (indexes, expected) in [
            (&[][..], ""),
            (&[3], "3"),
            (&[0, 1, 2], "0-2"),
            (&[3, 5, 6, 7, 9], "3, 5-7, 9"),
            (&[1, 3, 5, 7, 9, 11], "1, 3, 5, 7 and 2 more"),
        ] {
            assert_eq!(index_ranges(indexes, 10), expected, "{indexes:?}");
        }
    }

    #[test]
    fn the_fields_that_do_not_fit_are_named_together() {
        let field = |index, name| (Field::OfDocument { index, name }, "x".repeat(100));
        let mut fields = vec![(Field::Of("user_id"), "is wrong".to_owned())];
        fields.extend((0..500).map(|index| field(index, "document_hash")));
        fields.extend([field(500, "case_id"), field(900, "case_id")]);
        let shown = shown_fields(&fields);
        let (last, listed) = shown.split_last().unwrap();
        assert_eq!(listed[..], fields[..listed.len()]);
        assert_eq!(last.0.to_string(), "documents");
        let rest = fields.len() - listed.len();
        let first = listed.len() - 1;
        assert_eq!(
            last.1,
            format!("has {rest} more invalid fields: document_hash of {first}-499; case_id of 500, 900")
        );
        assert_eq!(shown_fields(&fields[..3]), fields[..3]);
    }
}

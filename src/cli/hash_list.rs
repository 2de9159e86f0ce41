//! Lists of hashes: what `sha256sum` and `shasum --tag` print, and lines that have a hash or a CID alone.

use crate::registration::GivenDocument;
use std::borrow::Cow;

/// A line that names a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ListedDocument {
    pub document: GivenDocument,
    /// The file that the line names, if it does.
    pub name: Option<String>,
}

/// `None` for a line without a document: an empty one, or a comment.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn parse_line(line: &str) -> Result<Option<ListedDocument>, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (hash, name) = split(line);
    let document = hash.parse::<GivenDocument>().map_err(|error| error.to_string())?;
    Ok(Some(ListedDocument { document, name: name.filter(|name| *name != "-").map(Cow::into_owned) }))
}

/// The hash and the name: `HASH  NAME`, `HASH *NAME`, `SHA256 (NAME) = HASH`, or `HASH`. A `\` in front says that line
/// breaks and backslashes of the name are escaped.
fn split(line: &str) -> (&str, Option<Cow<'_, str>>) {
    let (line, is_escaped) = line.strip_prefix('\\').map_or((line, false), |line| (line, true));
    let unescaped = |name: &'_ str| if is_escaped { unescape(name).into() } else { name.to_owned().into() };
    if let Some((name, hash)) = line.strip_prefix("SHA256 (").and_then(|rest| rest.rsplit_once(") = ")) {
        return (hash, Some(unescaped(name)));
    }
    match line.split_once(' ') {
        Some((hash, name)) => (hash, Some(unescaped(name.strip_prefix([' ', '*']).unwrap_or(name)))),
        None => (line, None),
    }
}

fn unescape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some(escaped @ ('n' | 'r' | '\\'))) => {
                chars.next();
                text.push(match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                });
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn lines_of_sha256sum_and_its_relatives_are_read() {
        for (line, name) in [
            (format!("{ABC}  a b.pdf"), Some("a b.pdf")),
            (format!("{ABC} *a.pdf\r\n"), Some("a.pdf")),
            (format!("{ABC}  -"), None),
            (format!("\\{ABC}  a\\nb\\\\c"), Some("a\nb\\c")),
            (format!("SHA256 (a (1).pdf) = {ABC}"), Some("a (1).pdf")),
            (ABC.to_owned(), None),
            (format!("0x{}", ABC.to_uppercase()), None),
        ] {
            let listed = parse_line(&line).unwrap().unwrap();
            assert_eq!(listed.document.hash.to_string(), format!("0x{ABC}"), "{line}");
            assert_eq!(listed.name.as_deref(), name, "{line}");
        }
        for line in ["", "  ", "# sha256sum of the archive", "\r\n"] {
            assert_eq!(parse_line(line), Ok(None), "{line:?}");
        }
        assert!(parse_line(&format!("{}  a.pdf", &ABC[1..])).unwrap_err().contains("63 hex digits"));
        assert!(parse_line("da39a3ee5e6b4b0d3255bfef95601890afd80709  a.pdf").is_err(), "of sha1sum");
    }
}

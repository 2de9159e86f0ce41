//! Search by document hash, CID, case, registration id or transaction hash. Each is an index's own lookup; nothing is
//! counted.

use super::{format, page::Page, rows::RegistrationRow};
use crate::{
    pipeline::{Filter, Registrar, StoreError},
    registration::{CaseId, GivenDocument, Registration, RegistrationId, Timestamp},
};
use alloy::primitives::{B256, hex};
use askama::Template;

/// Of one page.
const MAX_RESULTS: u32 = 50;
/// A longer text is none of them.
const MAX_QUERY_CHARS: usize = 256;

#[derive(Template)]
#[template(path = "search.html")]
pub(super) struct SearchPage {
    page: Page,
    groups: Vec<Group>,
    /// Why nothing was looked up.
    problem: Option<String>,
}

struct Group {
    title: String,
    rows: Vec<RegistrationRow>,
    /// The next page.
    older: Option<String>,
}

/// What the text may be.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Key {
    Id(RegistrationId),
    Lookup(&'static str, Box<Filter>),
}

/// What was found.
pub(super) enum Outcome {
    /// The only one.
    One(RegistrationId),
    Page(Box<SearchPage>),
}

/// Several, where a text may be several things: 64 hex digits are a document or a transaction, and may be a case.
fn keys(text: &str) -> Result<Vec<Key>, String> {
    if text.is_empty() {
        return Err("Enter a document hash, a CID, a case, a registration id or a transaction hash.".to_owned());
    }
    if text.chars().count() > MAX_QUERY_CHARS {
        return Err(format!("The text is longer than {MAX_QUERY_CHARS} characters, and no key is as long."));
    }
    if let Ok(id) = text.parse() {
        return Ok(vec![Key::Id(id)]);
    }
    let mut keys = Vec::new();
    if let Ok(document) = text.parse::<GivenDocument>() {
        let filter = Filter { document_hash: Some(document.hash), ..Filter::default() };
        keys.push(Key::Lookup("Document", Box::new(filter)));
    }
    let mut hash = [0; 32];
    if hex::decode_to_slice(text, &mut hash).is_ok() {
        let filter = Filter { transaction_hash: Some(B256::from(hash)), ..Filter::default() };
        keys.push(Key::Lookup("Transaction", Box::new(filter)));
    }
    match text.parse::<CaseId>() {
        Ok(case_id) => {
            let filter = Filter { case_id: Some(case_id), ..Filter::default() };
            keys.push(Key::Lookup("Case", Box::new(filter)));
        }
        Err(error) if keys.is_empty() => {
            return Err(format!("This is neither a hash, a CID or an id, nor a case: it {error}."));
        }
        Err(_) => {}
    }
    Ok(keys)
}

/// # Errors
/// When the database cannot be read.
pub(super) async fn search(
    registrar: &Registrar,
    (text, after): (&str, Option<RegistrationId>),
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    let text = text.trim();
    let page = Page::new(registrar, at).with_query(text);
    let keys = match keys(text) {
        Ok(keys) => keys,
        Err(problem) => {
            return Ok(Outcome::Page(Box::new(SearchPage { page, groups: Vec::new(), problem: Some(problem) })));
        }
    };
    let mut groups = Vec::new();
    let mut found = Vec::new();
    for key in keys {
        let (title, rows) = match key {
            Key::Id(id) => ("Registration", registrar.get(id).await?.into_iter().collect()),
            Key::Lookup(title, filter) => (title, registrar.list(&filter, after, MAX_RESULTS).await?),
        };
        found.extend(rows.iter().map(|row: &Registration| row.id));
        if !rows.is_empty() {
            groups.push(Group::new(title, text, &rows, at));
        }
    }
    found.dedup();
    match (found.as_slice(), after) {
        ([only], None) => Ok(Outcome::One(*only)),
        _ => Ok(Outcome::Page(Box::new(SearchPage { page, groups, problem: None }))),
    }
}

impl Group {
    fn new(title: &str, text: &str, rows: &[Registration], at: Timestamp) -> Self {
        let is_full = rows.len() >= MAX_RESULTS as usize;
        let query: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let older = rows.last().filter(|_| is_full).map(|last| format!("/ui/search?q={query}&after={}", last.id));
        let shown =
            if is_full { format!("{} shown", format::count(rows.len() as u64)) } else { rows.len().to_string() };
        Self {
            title: format!("{title} ({shown})"),
            rows: rows.iter().map(|row| RegistrationRow::new(row, at)).collect(),
            older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(text: &str) -> Vec<&'static str> {
        let title = |key: &Key| match key {
            Key::Id(_) => "Id",
            Key::Lookup(title, _) => title,
        };
        keys(text).unwrap_or_default().iter().map(title).collect()
    }

    #[test]
    fn a_text_is_looked_up_as_everything_that_it_may_be() {
        let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let prefixed = format!("0x{hash}");
        for (text, expected) in [
            ("0198c2f2-7a5b-7c3e-9d1f-0a1b2c3d4e5f", &["Id"][..]),
            (hash, &["Document", "Transaction", "Case"]),
            (&prefixed, &["Document", "Transaction"]),
            ("bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq", &["Document", "Case"]),
            ("AAA-2026-00042", &["Case"]),
        ] {
            assert_eq!(titles(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_answered_with_a_sentence() {
        for (text, words) in
            [("", "Enter"), (&"x".repeat(300), "longer"), (&"x".repeat(100), "neither"), ("a\u{0}b", "neither")]
        {
            assert!(keys(text).unwrap_err().contains(words), "{text}");
        }
    }
}

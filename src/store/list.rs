//! Pages of registrations, newest first.
//!
//! However many are finished, a page reads about as many rows as it shows, from whichever place it begins: each state's newest come
//! from an index in the order of ids, and the newest of those are the page. Two filters read more: a document reads its own
//! registrations, one for each case; and a case with a state, other than failed, reads the case's.

use super::{Store, StoreError, rows};
use crate::registration::{CaseId, DocumentHash, Pair, Registration, RegistrationId, State};
use sqlx::AssertSqlSafe;

/// Which registrations a page lists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Only these states; empty means all.
    pub states: Vec<State>,
    /// Only this case.
    pub case_id: Option<CaseId>,
    /// Only this document.
    pub document_hash: Option<DocumentHash>,
}

impl Store {
    /// One registration by its pair.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find_by_pair(&self, pair: &Pair) -> Result<Option<Registration>, StoreError> {
        let filter = Filter {
            document_hash: Some(pair.document_hash),
            case_id: Some(pair.case_id.clone()),
            ..Filter::default()
        };
        Ok(self.list(&filter, None, 1).await?.pop())
    }

    /// At most `limit` registrations, newest first, from those before `before` on.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(
        &self,
        filter: &Filter,
        before: Option<RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(list_sql(filter, before.is_some())));
        if let Some(before) = before {
            query = query.bind(before.as_bytes().to_vec());
        }
        if let Some(document) = filter.document_hash {
            query = query.bind(document.as_bytes().to_vec());
        }
        if let Some(case_id) = &filter.case_id {
            query = query.bind(case_id.as_str().to_owned());
        }
        let found = query.bind(i64::from(limit)).fetch_all(&self.reader).await?;
        found.iter().map(rows::read_registration).collect()
    }
}

/// The statement of a page. It binds, as far as they are asked for: before which, document, case, how many.
pub(super) fn list_sql(filter: &Filter, before: bool) -> String {
    let mut bound = 0;
    let mut place = |asked: bool| {
        bound += usize::from(asked);
        asked.then_some(bound)
    };
    let before = place(before).map(|number| format!("id < ${number}"));
    let document = place(filter.document_hash.is_some()).map(|number| format!("document_hash = ${number}"));
    let case = place(filter.case_id.is_some()).map(|number| format!("case_id = ${number}"));
    let newest = format!("ORDER BY id DESC LIMIT ${}", bound + 1);
    let conditions = || [&before, &document, &case].into_iter().flatten().cloned();

    let of_state = |state: &State| {
        // In the text and not bound, for an index that holds one state is used only where the statement names it.
        let only = conditions().chain([format!("state = '{}'", state.code())]);
        let alias = state.code();
        format!("SELECT id FROM (SELECT id FROM registrations WHERE {} {newest}) {alias}", join_and(only))
    };
    let ids = if filter.document_hash.is_some() {
        // Concatenated with nothing, a column is in no index: the states' would be walked for a document of any age.
        let codes: Vec<_> = filter.states.iter().map(|state| format!("'{}'", state.code())).collect();
        let states = (!codes.is_empty()).then(|| format!("(state || '') IN ({})", codes.join(", ")));
        format!("SELECT id FROM registrations WHERE {}", join_and(conditions().chain(states)))
    } else if filter.states.is_empty() {
        let any = conditions().map(|condition| format!("r.{condition}"));
        let any = if before.is_none() && case.is_none() { String::new() } else { format!(" WHERE {}", join_and(any)) };
        return format!("{}{any} ORDER BY r.id DESC LIMIT ${}", rows::SELECT_REGISTRATION, bound + 1);
    } else {
        filter.states.iter().map(of_state).collect::<Vec<_>>().join(" UNION ALL ")
    };
    format!("{} WHERE r.id IN ({ids}) ORDER BY r.id DESC LIMIT ${}", rows::SELECT_REGISTRATION, bound + 1)
}

fn join_and(conditions: impl Iterator<Item = String>) -> String {
    conditions.collect::<Vec<_>>().join(" AND ")
}

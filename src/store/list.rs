//! Pages of registrations, newest first.
//!
//! However many registrations are finished, and wherever a page begins, it reads about as many rows as it returns: the
//! newest of each state come from an index in the order of ids, and the newest of those are the page. Two filters read
//! more: a document reads all of its registrations, one for each case; and a case with a state other than failed reads
//! all of the case's.

use super::{Store, StoreError, rows};
use crate::{
    registration::{CaseId, DocumentHash, Pair, Registration, RegistrationId, State},
    telemetry::spans,
};
use sqlx::AssertSqlSafe;

/// Restricts a page to some states, a case, a document, or a combination.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Empty means all.
    pub states: Vec<State>,
    /// `None` means any case.
    pub case_id: Option<CaseId>,
    /// `None` means any document.
    pub document_hash: Option<DocumentHash>,
}

impl Store {
    pub async fn find_by_pair(&self, pair: &Pair) -> Result<Option<Registration>, StoreError> {
        let filter = Filter {
            document_hash: Some(pair.document_hash),
            case_id: Some(pair.case_id.clone()),
            ..Filter::default()
        };
        Ok(self.select_page("find", &filter, None, 1).await?.pop())
    }

    /// At most `limit` registrations, newest first, that are older than `before`.
    pub async fn list(
        &self,
        filter: &Filter,
        before: Option<RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        self.select_page("list", filter, before, limit).await
    }

    async fn select_page(
        &self,
        name: &'static str,
        filter: &Filter,
        before: Option<RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(list_sql(filter, before.is_some())));
        if let Some(before) = before {
            query = query.bind(before);
        }
        if let Some(document_hash) = filter.document_hash {
            query = query.bind(document_hash);
        }
        if let Some(case_id) = &filter.case_id {
            query = query.bind(case_id.clone());
        }
        let found = spans::db(name, query.bind(i64::from(limit)).fetch_all(&self.reader)).await?;
        found.iter().map(rows::read_registration).collect()
    }
}

/// Binds, in this order and as far as present: before, document, case, limit.
pub(super) fn list_sql(filter: &Filter, before: bool) -> String {
    let mut bound = 0;
    let mut placeholder = |is_present: bool| {
        bound += usize::from(is_present);
        is_present.then_some(bound)
    };
    let before = placeholder(before).map(|number| format!("id < ${number}"));
    let document = placeholder(filter.document_hash.is_some()).map(|number| format!("document_hash = ${number}"));
    let case = placeholder(filter.case_id.is_some()).map(|number| format!("case_id = ${number}"));
    let newest = format!("ORDER BY id DESC LIMIT ${}", bound + 1);
    let conditions = || [&before, &document, &case].into_iter().flatten().cloned();

    let newest_of_state = |state: &State| {
        // In the text and not bound, for a partial index on one state is used only if the statement names the state.
        let only = conditions().chain([format!("state = '{}'", state.code())]);
        let alias = state.code();
        format!("SELECT id FROM (SELECT id FROM registrations WHERE {} {newest}) {alias}", join_and(only))
    };
    let ids = if filter.document_hash.is_some() {
        // The concatenation keeps the planner from the index on states, which it would scan for a document of any age.
        let codes: Vec<_> = filter.states.iter().map(|state| format!("'{}'", state.code())).collect();
        let states = (!codes.is_empty()).then(|| format!("(state || '') IN ({})", codes.join(", ")));
        format!("SELECT id FROM registrations WHERE {}", join_and(conditions().chain(states)))
    } else if filter.states.is_empty() {
        let any = conditions().map(|condition| format!("r.{condition}"));
        let any = if before.is_none() && case.is_none() { String::new() } else { format!(" WHERE {}", join_and(any)) };
        return format!("{}{any} ORDER BY r.id DESC LIMIT ${}", rows::SELECT_REGISTRATION, bound + 1);
    } else {
        filter.states.iter().map(newest_of_state).collect::<Vec<_>>().join(" UNION ALL ")
    };
    format!("{} WHERE r.id IN ({ids}) ORDER BY r.id DESC LIMIT ${}", rows::SELECT_REGISTRATION, bound + 1)
}

fn join_and(conditions: impl Iterator<Item = String>) -> String {
    conditions.collect::<Vec<_>>().join(" AND ")
}

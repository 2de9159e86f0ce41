//! Pages of registrations, newest or oldest first.
//!
//! However many registrations are finished, and wherever a page begins, it reads about as many rows as it returns: each
//! filter has an index in the order of ids, which is that of times. For several states or blocked reasons, the first
//! ones of each are read, and the first ones of those are the page.
//!
//! Some filters read more: a document or a transaction all of its registrations; a case, a user or a caller together
//! with others all of its own, or for states other than confirmed all that are in these states; and blocked reasons with
//! others all that are blocked for them.

use super::{
    Store, StoreError,
    query::{Query, query},
    rows,
    sql::unindexed,
};
use crate::{
    registration::{
        BlockedReason, CallerName, CaseId, DocumentHash, Pair, Registration, RegistrationId, State, Timestamp, UserId,
    },
    telemetry::spans,
};
use alloy::primitives::B256;

/// Restricts the pages of a list, and orders them. `None` and empty lists restrict nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    pub states: Vec<State>,
    pub case_id: Option<CaseId>,
    pub document_hash: Option<DocumentHash>,
    pub user_id: Option<UserId>,
    /// Who asked for it last.
    pub caller: Option<CallerName>,
    pub blocked_reasons: Vec<BlockedReason>,
    /// Accepted at this time or later.
    pub created_from: Option<Timestamp>,
    /// Accepted before this time.
    pub created_before: Option<Timestamp>,
    /// Of any version of the transaction that carries it.
    pub transaction_hash: Option<B256>,
    pub order: Order,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
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

    /// At most `limit` registrations that come after this one in the filter's order.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        self.select_page("list", filter, after, limit).await
    }

    async fn select_page(
        &self,
        name: &'static str,
        filter: &Filter,
        after: Option<RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let Page { sql, values } = page(filter, after);
        let query = values.into_iter().fold(query(sql), |query, value| value.bind_to(query));
        let found = spans::db(name, query.bind(i64::from(limit)).fetch_all(&self.reader)).await?;
        found.iter().map(rows::read_registration).collect()
    }
}

/// A statement whose last parameter is the limit, and its other parameters.
pub(super) struct Page<'f> {
    pub(super) sql: String,
    values: Vec<Value<'f>>,
}

enum Value<'f> {
    Id(RegistrationId),
    Document(DocumentHash),
    Text(&'f str),
    Time(Timestamp),
    Hash(B256),
}

impl Value<'_> {
    fn bind_to(self, query: Query) -> Query {
        match self {
            Self::Id(id) => query.bind(id),
            Self::Document(hash) => query.bind(hash),
            Self::Text(text) => query.bind(text.to_owned()),
            Self::Time(time) => query.bind(time),
            Self::Hash(hash) => query.bind(hash.to_vec()),
        }
    }
}

/// Conditions on a row, in which `@` stands before each of its columns.
#[derive(Default)]
struct Conditions<'f> {
    all: Vec<String>,
    values: Vec<Value<'f>>,
}

impl<'f> Conditions<'f> {
    /// `?` in the text is the value.
    fn add(&mut self, text: &str, value: Value<'f>) {
        self.values.push(value);
        self.all.push(text.replace('?', &format!("${}", self.values.len())));
    }

    /// The first of the owners that is there selects the rows, by its index.
    fn add_owner(&mut self, column: &str, text: Option<&'f str>, is_selected: &mut bool) {
        if let Some(text) = text {
            let column = format!("@{column}");
            let column = if *is_selected { unindexed(&column) } else { column };
            self.add(&format!("{column} = ?"), Value::Text(text));
            *is_selected = true;
        }
    }

    fn joined(&self, prefix: &str, more: &[String]) -> String {
        let all: Vec<_> = self.all.iter().chain(more).map(|condition| condition.replace('@', prefix)).collect();
        if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
    }
}

fn one_of<'c>(column: &str, codes: impl Iterator<Item = &'c str>) -> Option<String> {
    let codes: Vec<_> = codes.map(|code| format!("'{code}'")).collect();
    (!codes.is_empty()).then(|| format!("{} IN ({})", unindexed(&format!("@{column}")), codes.join(", ")))
}

/// Which rows the first condition selects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Selected {
    /// Few, in no order.
    OfDocumentOrTransaction,
    /// Those blocked for one of these reasons.
    Blocked,
    /// Of a user or a caller.
    OfOwner,
    OfCase,
    InState,
    All,
}

impl Filter {
    fn selected(&self) -> Selected {
        if self.document_hash.is_some() || self.transaction_hash.is_some() {
            Selected::OfDocumentOrTransaction
        } else if !self.blocked_reasons.is_empty() {
            Selected::Blocked
        } else if self.case_id.is_some() {
            Selected::OfCase
        } else if self.user_id.is_some() || self.caller.is_some() {
            Selected::OfOwner
        } else {
            Selected::All
        }
    }

    fn conditions(&self, after: Option<RegistrationId>, selected: Selected) -> Conditions<'_> {
        let mut conditions = Conditions::default();
        self.add_range(after, &mut conditions);
        if let Some(hash) = self.document_hash {
            conditions.add("@document_hash = ?", Value::Document(hash));
        }
        if let Some(hash) = self.transaction_hash {
            let transactions = "SELECT id FROM transactions WHERE hash = ? UNION ALL SELECT transaction_id FROM \
                                attempts WHERE hash = ?";
            conditions.add(&format!("@transaction_id IN ({transactions})"), Value::Hash(hash));
        }
        let mut is_selected = match selected {
            // With its document, a case is a pair, which has an index.
            Selected::OfDocumentOrTransaction => self.document_hash.is_none(),
            Selected::Blocked | Selected::InState => true,
            Selected::OfOwner | Selected::OfCase | Selected::All => false,
        };
        conditions.add_owner("case_id", self.case_id.as_ref().map(CaseId::as_str), &mut is_selected);
        is_selected |= selected == Selected::OfDocumentOrTransaction;
        conditions.add_owner("user_id", self.user_id.as_ref().map(UserId::as_str), &mut is_selected);
        conditions.add_owner("caller", self.caller.as_ref().map(CallerName::as_str), &mut is_selected);
        conditions
    }

    /// Ids begin with the millisecond of acceptance, so that an index in their order has a time at one place.
    fn add_range(&self, after: Option<RegistrationId>, conditions: &mut Conditions<'_>) {
        let from = self.created_from.map(|from| first_id(from.micros().div_euclid(1_000)));
        let before = self.created_before.map(|before| first_id(before.micros().div_euclid(1_000) + 1));
        match (self.order, after) {
            (Order::NewestFirst, Some(after)) => {
                conditions.add("@id < ?", Value::Id(before.map_or(after, |before| before.min(after))));
                if let Some(from) = from {
                    conditions.add("@id >= ?", Value::Id(from));
                }
            }
            (Order::OldestFirst, Some(after)) => {
                match from.filter(|from| *from > after) {
                    Some(from) => conditions.add("@id >= ?", Value::Id(from)),
                    None => conditions.add("@id > ?", Value::Id(after)),
                }
                if let Some(before) = before {
                    conditions.add("@id < ?", Value::Id(before));
                }
            }
            (Order::NewestFirst | Order::OldestFirst, None) => {
                if let Some(from) = from {
                    conditions.add("@id >= ?", Value::Id(from));
                }
                if let Some(before) = before {
                    conditions.add("@id < ?", Value::Id(before));
                }
            }
        }
        // Exactly: a millisecond has many registrations.
        if let Some(from) = self.created_from {
            conditions.add("@created_at >= ?", Value::Time(from));
        }
        if let Some(before) = self.created_before {
            conditions.add("@created_at < ?", Value::Time(before));
        }
    }
}

/// The smallest id of this millisecond since 1970.
fn first_id(millis: i64) -> RegistrationId {
    let mut bytes = [0; 16];
    let [_, _, low @ ..] = millis.clamp(0, (1 << 48) - 1).to_be_bytes();
    bytes[..6].copy_from_slice(&low);
    RegistrationId::from_bytes(bytes)
}

pub(super) fn page(filter: &Filter, after: Option<RegistrationId>) -> Page<'_> {
    let selected = filter.selected();
    let mut conditions = filter.conditions(after, selected);
    let direction = match filter.order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    let limit = format!("LIMIT ${}", conditions.values.len() + 1);
    let states = || filter.states.iter().map(|state| state.code());
    let first_of = |alias: &str, conditions: String| {
        let ids = format!("SELECT id FROM registrations{conditions} ORDER BY id {direction} {limit}");
        format!("SELECT id FROM ({ids}) {alias}")
    };
    let ids: Vec<String> = match selected {
        Selected::OfDocumentOrTransaction => {
            conditions.all.extend(one_of("state", states()));
            conditions.all.extend(one_of("blocked", filter.blocked_reasons.iter().map(|reason| reason.code())));
            vec![format!("SELECT id FROM registrations{}", conditions.joined("", &[]))]
        }
        Selected::Blocked => {
            conditions.all.extend(one_of("state", states()));
            let of_reason = |reason: &BlockedReason| {
                // The second condition is that of the index.
                let only = [format!("@blocked = '{}'", reason.code()), "@blocked <> ''".to_owned()];
                first_of(&reason.code().to_lowercase(), conditions.joined("", &only))
            };
            filter.blocked_reasons.iter().map(of_reason).collect()
        }
        Selected::OfOwner | Selected::OfCase | Selected::InState | Selected::All if filter.states.is_empty() => {
            let conditions_text = conditions.joined("r.", &[]);
            let sql = format!("{}{conditions_text} ORDER BY r.id {direction} {limit}", rows::SELECT_REGISTRATION);
            return Page { sql, values: conditions.values };
        }
        Selected::OfOwner => {
            // Most registrations of a user or a caller are confirmed, and of all that are not, there are few.
            let in_state = filter.conditions(after, Selected::InState);
            let of_state = |state: &State| match state {
                State::Confirmed => {
                    first_of(state.code(), conditions.joined("", &[format!("{} = 'confirmed'", unindexed("@state"))]))
                }
                State::Queued | State::Signed | State::Submitted | State::Included | State::Failed => {
                    first_of(state.code(), in_state.joined("", &[format!("@state = '{}'", state.code())]))
                }
            };
            filter.states.iter().map(of_state).collect()
        }
        Selected::OfCase | Selected::InState | Selected::All => {
            // In the text and not bound, for a partial index on one state is used only if the statement names the state.
            let only = |state: &State| [format!("@state = '{}'", state.code())];
            filter.states.iter().map(|state| first_of(state.code(), conditions.joined("", &only(state)))).collect()
        }
    };
    let ids = ids.join(" UNION ALL ");
    let sql = format!("{} WHERE r.id IN ({ids}) ORDER BY r.id {direction} {limit}", rows::SELECT_REGISTRATION);
    Page { sql, values: conditions.values }
}

//! The transaction that accepts requests: whether there is room, one insert for many rows, and what was there before.

use super::{
    Store, StoreError,
    accept::{AcceptError, AcceptRequest, AcceptResult, Accepted},
    caller_usage::{CallerLimit, Rooms, UnfinishedCounts},
    db_transaction::DbTransaction,
    query::{self, Query, Value, query},
    rows::{self, RowReader},
    sql::{InsertSql, chunks, placeholders, state_guard},
    transact::Fence,
};
use crate::{
    clock,
    registration::{
        CallerName, CallerQuota, NewRegistration, Pair, Registration, RegistrationId, State, StateEvent, StateTimes,
        Timestamp,
    },
    telemetry::spans,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

const INSERT_REGISTRATIONS: InsertSql = InsertSql {
    into: "INSERT INTO registrations (id, document_hash, case_id, submitted_as, user_id, state, revision, trace_id, \
           parent_span_id, sampled, baggage, tracestate, created_at, updated_at, caller, change_number)",
    columns: 16,
    then: " ON CONFLICT (document_hash, case_id) DO NOTHING",
    skips_known: true,
};

/// What has no room for more registrations.
#[derive(Clone, Copy, Debug)]
enum Full {
    Queue,
    Caller(CallerLimit),
}

/// A registration for which there is room, with the id that it gets if its pair is new.
#[derive(Clone, Copy)]
struct Row<'r> {
    id: RegistrationId,
    new: &'r NewRegistration,
}

impl Store {
    /// Accepts several in one commit; the results are in the order of the requests. A request for which there is no
    /// room changes nothing.
    pub(super) async fn accept_batch(
        &self,
        requests: &[AcceptRequest],
        unfinished_counts: &UnfinishedCounts,
    ) -> Result<Vec<AcceptResult>, StoreError> {
        let now = clock::now();
        let limited_callers = limited_callers(requests);
        self.transact("accept_batch", Fence::None, async |tx| {
            let mut rooms = Rooms::lock(tx, &limited_callers, unfinished_counts, now).await?;
            let mut queue_room = self.queue_limit.saturating_sub(self.unfinished_count());
            // In the order of arrival.
            let mut full = Vec::with_capacity(requests.len());
            for request in requests {
                full.push(take_room(tx, request, &mut queue_room, &mut rooms).await?);
            }
            let with_room = requests.iter().zip(&full).filter(|(_, full)| full.is_none());
            let registrations = with_room.flat_map(|(request, _)| &request.registrations);
            let rows: Vec<_> =
                registrations.enumerate().map(|(position, new)| Row { id: new_id(now, position), new }).collect();
            let inserted = insert(tx, &rows, now).await?;
            let known = rows.iter().filter(|row| !inserted.contains(&row.id)).map(|row| &row.new.pair);
            let mut known = select_by_pairs(tx, &known.collect::<Vec<_>>()).await?;
            let mut rows = rows.into_iter();
            let mut results = Vec::with_capacity(requests.len());
            for (request, full) in requests.iter().zip(full) {
                if let Some(full) = full {
                    results.push(Err(self.refusal(full)));
                    continue;
                }
                let rows: Vec<_> = rows.by_ref().take(request.registrations.len()).collect();
                let restarted = restart_failed(tx, &rows, &mut known, now).await?;
                let accepted = rows.iter().map(|row| {
                    if inserted.contains(&row.id) {
                        return Ok(Accepted { registration: queued_registration(row, now), is_new: true });
                    }
                    // With the id of another request of this commit, or of an earlier one.
                    let registration = known.get(&row.new.pair).cloned().ok_or(StoreError::Conflict)?;
                    let is_new = restarted.contains(&registration.id);
                    Ok(Accepted { registration, is_new })
                });
                let accepted = accepted.collect::<Result<Vec<_>, StoreError>>()?;
                let new = accepted.iter().filter(|accepted| accepted.is_new);
                rooms.count(request.caller(), new.count() as u64);
                results.push(Ok(accepted));
            }
            rooms.store(tx).await?;
            Ok(results)
        })
        .await
    }

    fn refusal(&self, full: Full) -> AcceptError {
        match full {
            Full::Queue => AcceptError::QueueFull { limit: self.queue_limit },
            Full::Caller(limit) => AcceptError::CallerLimit(limit),
        }
    }

    /// The registrations of these pairs, as far as there are any.
    pub async fn find_by_pairs(&self, pairs: &[&Pair]) -> Result<HashMap<Pair, Registration>, StoreError> {
        let find = async {
            let mut found = HashMap::with_capacity(pairs.len());
            for chunk in chunks(pairs) {
                read_by_pair(&by_pairs(&chunk).fetch_all(&self.reader).await?, &mut found)?;
            }
            Ok(found)
        };
        spans::db("find", find).await
    }
}

/// The ids of the rows whose pairs were not there. Two replicas that write the same pairs wait for each other's
/// rows: in one order, so that they cannot deadlock.
async fn insert(
    tx: &mut DbTransaction,
    rows: &[Row<'_>],
    now: Timestamp,
) -> Result<HashSet<RegistrationId>, StoreError> {
    let mut ordered = rows.to_vec();
    ordered.sort_by(|a, b| a.new.pair.cmp(&b.new.pair));
    let values = ordered.iter().map(|row| row_values(row, now, tx.change_number)).collect();
    tx.has_changes = true;
    let mut inserted = HashSet::with_capacity(rows.len());
    let mut rest = ordered.as_slice();
    for (size, count) in tx.insert(&INSERT_REGISTRATIONS, values).await? {
        let (chunk, others) = rest.split_at(size);
        rest = others;
        // Reading the ids back would cost as much as writing their rows.
        if count == size as u64 {
            inserted.extend(chunk.iter().map(|row| row.id));
        } else if count > 0 {
            inserted.extend(existing_ids(tx, chunk).await?);
        }
    }
    tx.unfinished.added += inserted.len() as u64;
    Ok(inserted)
}

/// Takes the room that a request needs, all of it or none. A pair that is unfinished or confirmed needs none.
async fn take_room(
    tx: &mut DbTransaction,
    request: &AcceptRequest,
    queue_room: &mut u64,
    rooms: &mut Rooms,
) -> Result<Option<Full>, StoreError> {
    let mut needed = request.registrations.len() as u64;
    let caller = request.caller();
    let mut try_take = |needed| {
        let left = queue_room.checked_sub(needed).ok_or(Full::Queue)?;
        rooms.take(caller, needed).map_err(Full::Caller)?;
        *queue_room = left;
        Ok(())
    };
    if try_take(needed).is_ok() {
        return Ok(None);
    }
    let pairs: Vec<_> = request.registrations.iter().map(|new| &new.pair).collect();
    let known = select_by_pairs(tx, &pairs).await?;
    let needs_none = |new: &&NewRegistration| known.get(&new.pair).is_some_and(|known| !is_restartable(known));
    needed -= request.registrations.iter().filter(needs_none).count() as u64;
    Ok(if needed == 0 { None } else { try_take(needed).err() })
}

/// Restarts those of the known registrations that have failed, on behalf of the caller of these rows. Returns the ids
/// of the ones that were restarted by this.
async fn restart_failed(
    tx: &mut DbTransaction,
    rows: &[Row<'_>],
    known: &mut HashMap<Pair, Registration>,
    now: Timestamp,
) -> Result<HashSet<RegistrationId>, StoreError> {
    let failed = |row: &&Row<'_>| known.get(&row.new.pair).is_some_and(is_restartable);
    let failed: Vec<_> = rows.iter().filter(failed).map(|row| &row.new.pair).collect();
    let mut restarted = HashSet::new();
    let Some(caller) = rows.first().map(|row| row.new.caller.clone()) else { return Ok(restarted) };
    let ids: Vec<_> = failed.iter().filter_map(|pair| known.get(pair)).map(|registration| registration.id).collect();
    for chunk in chunks(&ids) {
        // Another replica may have restarted some since they were read.
        let restart = tx.change_registrations(
            "state = $3, blocked = '', retry_at = 0, reverts = 0, transaction_id = NULL, failure_reason = NULL, \
             failure_message = NULL, failed_at = NULL, queued_at = $4, delayed_at = NULL, delay_diagnosis = NULL, caller = $5",
            &format!(
                "{} AND id IN ({}) RETURNING id",
                state_guard(StateEvent::Retry),
                placeholders(6, chunk.len())
            ),
            now,
        );
        let query = restart
            .bind(StateEvent::Retry.target().code())
            .bind(now)
            .bind(caller.as_ref().map(|caller| caller.as_str().to_owned()));
        let query = chunk.iter().fold(query, |query, id| query.bind(*id));
        for row in &query.fetch_all(&mut **tx).await? {
            restarted.insert(RowReader::new(row).registration_id()?);
        }
    }
    tx.unfinished.added += restarted.len() as u64;
    known.extend(select_by_pairs(tx, &failed).await?);
    Ok(restarted)
}

async fn select_by_pairs(tx: &mut DbTransaction, pairs: &[&Pair]) -> Result<HashMap<Pair, Registration>, StoreError> {
    let mut found = HashMap::with_capacity(pairs.len());
    for chunk in chunks(pairs) {
        read_by_pair(&by_pairs(&chunk).fetch_all(&mut **tx).await?, &mut found)?;
    }
    Ok(found)
}

fn is_restartable(registration: &Registration) -> bool {
    registration.state.next(StateEvent::Retry).is_some()
}

/// Ids sort as the times of acceptance do, also after the clock was set back, and in a batch as the requests do. A
/// UUIDv7 with the fraction of the millisecond in its next 12 bits
/// (<https://www.rfc-editor.org/rfc/rfc9562#name-monotonicity-and-counters>, method 3).
fn new_id(accepted: Timestamp, position: usize) -> RegistrationId {
    let micros = accepted.micros().max(0).cast_unsigned();
    let fraction = u16::try_from(micros % 1000 * 4096 / 1000).unwrap_or(u16::MAX).to_be_bytes();
    let position = u16::try_from(position).unwrap_or(u16::MAX).to_be_bytes();
    let [.., a, b, c, d, e] = *Uuid::new_v4().as_bytes();
    // The builder replaces the first 4 bits by the version and the next byte's first 2 by the variant.
    let bytes = [fraction[0], fraction[1], 0, position[0], position[1], a, b, c, d, e];
    RegistrationId::from(uuid::Builder::from_unix_timestamp_millis(micros / 1000, &bytes).into_uuid())
}

/// The callers that have a quota, each with the number of its registrations.
fn limited_callers(requests: &[AcceptRequest]) -> BTreeMap<CallerName, (CallerQuota, u64)> {
    let mut callers = BTreeMap::new();
    for request in requests.iter().filter(|request| request.quota.is_limited()) {
        if let Some(caller) = request.caller() {
            // The newest one, where the callers file has changed in between.
            let of_caller = callers.entry(caller.clone()).or_insert((request.quota, 0));
            *of_caller = (request.quota, of_caller.1 + request.registrations.len() as u64);
        }
    }
    callers
}

/// Of [`INSERT_REGISTRATIONS`].
fn row_values(Row { id, new }: &Row<'_>, now: Timestamp, change_number: i64) -> Vec<Value> {
    vec![
        (*id).into(),
        new.pair.document_hash.into(),
        new.pair.case_id.clone().into(),
        new.submitted_as.clone().into(),
        new.user_id.as_ref().map(|user| user.as_str().to_owned()).into(),
        State::Queued.code().into(),
        1_i64.into(),
        new.trace.trace_id.to_bytes().to_vec().into(),
        new.trace.parent.map(|span| span.to_bytes().to_vec()).into(),
        new.trace.sampled.map(i64::from).into(),
        new.trace.baggage.clone().into(),
        new.trace.tracestate.clone().into(),
        now.into(),
        now.into(),
        new.caller.as_ref().map(|caller| caller.as_str().to_owned()).into(),
        change_number.into(),
    ]
}

async fn existing_ids(tx: &mut DbTransaction, chunk: &[Row<'_>]) -> Result<Vec<RegistrationId>, StoreError> {
    let sql = format!("SELECT id FROM registrations WHERE id IN ({})", placeholders(1, chunk.len()));
    let query = chunk.iter().fold(query(sql), |query, row| query.bind(row.id));
    query.fetch_all(&mut **tx).await?.iter().map(|row| RowReader::new(row).registration_id()).collect()
}

fn by_pairs(pairs: &[&Pair]) -> Query {
    let query = query(by_pairs_sql(pairs.len()));
    pairs.iter().fold(query, |query, pair| query.bind(pair.document_hash).bind(pair.case_id.clone()))
}

fn read_by_pair(rows: &[query::Row], found: &mut HashMap<Pair, Registration>) -> Result<(), StoreError> {
    for row in rows {
        let registration = rows::read_registration(row)?;
        found.insert(registration.request.pair.clone(), registration);
    }
    Ok(())
}

/// One condition for each pair: both engines look each of them up in the index, however large the table is.
pub(super) fn by_pairs_sql(pairs: usize) -> String {
    let is_pair = |number| format!("(r.document_hash = ${} AND r.case_id = ${})", 2 * number + 1, 2 * number + 2);
    let conditions: Vec<_> = (0..pairs).map(is_pair).collect();
    format!("{} WHERE {}", rows::SELECT_REGISTRATION, conditions.join(" OR "))
}

fn queued_registration(row: &Row<'_>, now: Timestamp) -> Registration {
    let times = StateTimes {
        created: now,
        queued: now,
        delayed: None,
        submitted: None,
        included: None,
        confirmed: None,
        failed: None,
        timed_out: None,
        updated: now,
    };
    Registration {
        id: row.id,
        request: row.new.clone(),
        state: State::Queued,
        finality: None,
        revision: 1,
        blocked_reason: None,
        transaction: None,
        failure: None,
        diagnosis: None,
        times,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_of_acceptance_and_then_by_position() {
        let at = |micros: i64, position| new_id(Timestamp::from_micros(1_700_000_000_000_000 + micros), position);
        let sorted = [at(-3_600_000_000, 1_511), at(0, 0), at(0, 1), at(0, 1_511), at(1, 0), at(999, 3), at(1000, 0)];
        assert!(sorted.is_sorted(), "{sorted:?}");
        assert_ne!(at(0, 0), at(0, 0));
        assert_eq!(Uuid::from_bytes(*at(0, 0).as_bytes()).get_version_num(), 7);
    }
}

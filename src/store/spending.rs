//! What transactions have cost, and may cost; and the one place where a day's budget is held.

use super::{Store, StoreError, rows::Columns, settled::Settled, write::Write};
use crate::{
    registration::{
        Cost, Timestamp, TransactionId,
        policy::budget::{Allowance, Spending},
    },
    telemetry::metrics,
};
use sqlx::any::AnyRow;
use std::time::Duration;
use tokio::{sync::OwnedMutexGuard, time::timeout};

/// What each version of each transaction that waits for a block may cost; and, in one row more, the fees of what was included from a
/// time on. One statement, so that a transaction that is included meanwhile is in one of the two, and not in none. The fees of a
/// day are summed as floating-point numbers, which PostgreSQL and SQLite both do alike, and whose error is far below a millionth of
/// a gwei's share. `CROSS JOIN` keeps SQLite from looking through all attempts there ever were
/// (<https://www.sqlite.org/optoverview.html#crossjoin>); to PostgreSQL it is a join like any other.
pub(super) const SPENDING: &str = "SELECT CAST(NULL AS DOUBLE PRECISION), t.id, a.worst_cost, t.gas_limit, a.max_fee_per_gas \
     FROM transactions t CROSS JOIN attempts a \
     WHERE a.transaction_id = t.id AND t.state IN ('signed', 'submitted', 'included') AND t.state <> 'included' \
     UNION ALL \
     SELECT COALESCE(SUM(CAST(gas_used AS DOUBLE PRECISION) * CAST(effective_gas_price AS DOUBLE PRECISION) \
     + CAST(COALESCE(l1_fee, '0') AS DOUBLE PRECISION)), 0.0), NULL, NULL, NULL, NULL FROM transactions \
     WHERE included_at >= $1 AND gas_used IS NOT NULL";
/// Replicas that may spend of one budget do it one after the other: a lock of the database's, ended with its transaction. The
/// number says `spending` in ASCII. A replica that is frozen while it has the lock keeps the others waiting until the server ends its
/// session; they ask again later, and hold no connection meanwhile. What is waited for after that is waited for as ever.
const LOCK: &str = "SET LOCAL lock_timeout = '1s'; SELECT pg_advisory_xact_lock(8318260036558745191); SET LOCAL lock_timeout TO DEFAULT";
/// The lanes of one replica wait this long for each other.
const TURN: Duration = Duration::from_secs(5);

/// The turn to spend of a budget, among the lanes of this process.
pub(super) struct Turn {
    allowance: Allowance,
    settled: Settled,
    _held: OwnedMutexGuard<Option<Settled>>,
}

impl Store {
    /// A transaction that reverted was paid for all the same.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn paid(&self, id: TransactionId, cost: &Cost, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write_about(id).await?;
        sqlx::query(
            "UPDATE transactions SET included_at = $1, gas_used = $2, effective_gas_price = $3, l1_fee = $4 WHERE id = $5",
        )
        .bind(at.micros())
        .bind(cost.gas_used.cast_signed())
        .bind(cost.effective_gas_price.to_string())
        .bind(cost.l1_fee.map(|fee| fee.to_string()))
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    /// What was spent since then by every signer, and what the transactions that wait for a block may cost.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn spending(&self, since: Timestamp) -> Result<Spending, StoreError> {
        let rows = sqlx::query(SPENDING).bind(since.micros()).fetch_all(&self.reader).await?;
        let spending = read(&rows)?;
        metrics().daily_spend(spending.taken());
        Ok(spending)
    }

    /// Begins a write that spends of a budget. Until it is over nobody else spends: on SQLite there is one writer, and on PostgreSQL
    /// whoever comes next waits here. So the budget holds whichever replicas sign at the same moment. It is the first thing that
    /// such a write does: who waits here has locked nothing that anybody else needs, such as the row of a lease. And of the lanes of
    /// one process only one waits for another replica, with one connection: the others are there for everything else. The turn
    /// among the lanes is to be held until the write is over. Without an allowance nobody waits.
    ///
    /// # Errors
    /// When the database cannot be written, or the turn does not come in time.
    pub(super) async fn spend(&self, allowance: Option<Allowance>) -> Result<(Option<Turn>, Write), StoreError> {
        let Some(allowance) = allowance else { return Ok((None, Write::begin(&self.writer).await?)) };
        let mut turn = timeout(TURN, self.spender.clone().lock_owned()).await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let settled = self.settled(*turn, &allowance).await?;
        *turn = Some(settled);
        let mut write = Write::begin(&self.writer).await?;
        if self.engine.has_locks() {
            sqlx::raw_sql(LOCK).execute(&mut *write).await?;
        }
        Ok((Some(Turn { allowance, settled, _held: turn }), write))
    }

    /// Goes on with a write that makes a version of this transaction, which may cost `worst` wei, if the day's allowance has room for
    /// it. Without one nothing is asked.
    ///
    /// # Errors
    /// [`StoreError::OverBudget`] when it has no room; then nothing was written.
    pub(super) async fn within(
        &self,
        turn: Option<&Turn>,
        (id, worst): (TransactionId, u128),
        mut write: Write,
    ) -> Result<Write, StoreError> {
        let Some(Turn { allowance, settled, .. }) = turn else { return Ok(write) };
        let rows = sqlx::query(SPENDING).bind(settled.until.micros()).fetch_all(&mut *write).await?;
        let mut spending = read(&rows)?;
        spending.spent = spending.spent.saturating_add(settled.spent);
        if let Err(over) = spending.allows(id, worst, allowance) {
            metrics().daily_spend(spending.taken());
            write.undo().await?;
            return Err(StoreError::OverBudget(over));
        }
        spending.waits(id, worst);
        metrics().daily_spend(spending.taken());
        Ok(write)
    }
}

/// Reads the rows of [`SPENDING`].
fn read(rows: &[AnyRow]) -> Result<Spending, StoreError> {
    let mut spending = Spending::default();
    for row in rows {
        let mut c = Columns::of(row);
        if let Some(spent) = c.get::<Option<f64>>()? {
            // A sum of fees is far below what the type holds, and never negative.
            spending.spent = spent as u128;
            continue;
        }
        let (id, known) = (TransactionId::from_bytes(c.bytes()?), c.wei()?);
        let (gas, fee) = (c.unsigned()?.unwrap_or_default(), c.unsigned()?.unwrap_or_default());
        spending.waits(id, known.unwrap_or(u128::from(gas) * u128::from(fee)));
    }
    Ok(spending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{Block, policy::budget::OverBudget, policy::fees::Fees},
        store::{Attempt, Inclusion, NewTransaction, Recognised, Replacement, testing::Ground},
    };
    use alloy::primitives::{Address, B256};
    use futures_util::future::join_all;

    /// At what its gas is offered for, and 1,000 wei beside.
    const WORST: u128 = 50_000 * 5 + 1_000;

    /// Both engines, each with a fresh database.
    async fn grounds() -> [Ground; 2] {
        [Ground::sqlite(), Ground::postgres().await]
    }

    /// A replica that acts for these signers.
    async fn replica(ground: &Ground, signers: &[Address]) -> Store {
        let store = Store::open(&ground.settings(), 100).await.unwrap();
        for signer in signers {
            store.acquire(*signer).await.unwrap().unwrap();
        }
        store
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn allowance(budget: u128) -> Option<Allowance> {
        Some(Allowance { budget, since: at(50), at: at(60), whole: true })
    }

    fn version(signer: Address, nonce: u64, number: u8) -> Attempt {
        let hash = [signer.as_slice(), &nonce.to_be_bytes()[4..], &[number; 8]].concat();
        let fees = Fees { max_fee_per_gas: 5, max_priority_fee_per_gas: 1 };
        Attempt { hash: B256::from_slice(&hash), raw: vec![number].into(), fees }
    }

    fn transaction(signer: Address, nonce: u64, allowance: Option<Allowance>) -> NewTransaction {
        let mut id = [nonce as u8; 16];
        id[0] = signer[0];
        NewTransaction {
            id: TransactionId::from_bytes(id),
            signer,
            nonce,
            gas_limit: 50_000,
            prepared_at: at(60),
            signed_at: at(60),
            attempt: version(signer, nonce, 1),
            worst_cost: WORST,
            allowance,
        }
    }

    fn again(of: &NewTransaction, number: u8, worst_cost: u128, allowance: Option<Allowance>) -> Replacement {
        let attempt = version(of.signer, of.nonce, number);
        let (number, signed_at) = (number.into(), at(61));
        Replacement { attempt, number, gas_limit: 50_000, batch_size: 1, signed_at, worst_cost, allowance }
    }

    fn over(result: Result<(), StoreError>) -> OverBudget {
        match result {
            Err(StoreError::OverBudget(over)) => over,
            other => panic!("{other:?}"),
        }
    }

    const ONE: Address = Address::repeat_byte(1);

    #[tokio::test]
    async fn what_was_spent_today_and_what_is_out_at_its_worst_is_known_to_the_wei() {
        for ground in grounds().await {
            let store = replica(&ground, &[ONE]).await;
            let (first, second) = (transaction(ONE, 0, None), transaction(ONE, 1, None));
            store.sign(&first, &[]).await.unwrap();
            store.sign(&second, &[]).await.unwrap();
            let taken = async |since| store.spending(at(since)).await.unwrap().taken();
            assert_eq!(taken(0).await, 2 * WORST);

            store.replace(second.id, &again(&second, 2, WORST - 10, None)).await.unwrap();
            assert_eq!(taken(0).await, 2 * WORST, "either version may be included");
            store.replace(second.id, &again(&second, 3, WORST + 7, None)).await.unwrap();
            assert_eq!(taken(0).await, 2 * WORST + 7);

            let block = Block { number: 7, hash: B256::repeat_byte(7), time: at(99) };
            let cost = Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: Some(7) };
            let inclusion = Inclusion { hash: first.attempt.hash, block, cost };
            store.included(first.id, &inclusion, &[], false, at(100)).await.unwrap();
            let spent = 40_000 * 3 + 7;
            assert_eq!(store.spending(at(100)).await.unwrap().spent, spent);
            assert_eq!(taken(100).await, spent + WORST + 7);
            assert_eq!(taken(101).await, WORST + 7, "on another day");
            store.reorged(first.id, at(102)).await.unwrap();
            assert_eq!(taken(0).await, 2 * WORST + 7, "a block that is gone cost nothing");
        }
    }

    #[tokio::test]
    async fn what_an_earlier_release_signed_counts_by_its_gas() {
        let store = replica(&Ground::sqlite(), &[ONE]).await;
        store.sign(&transaction(ONE, 0, None), &[]).await.unwrap();
        sqlx::query("UPDATE attempts SET worst_cost = NULL").execute(&store.writer).await.unwrap();
        assert_eq!(store.spending(at(0)).await.unwrap().taken(), 50_000 * 5);
    }

    #[tokio::test]
    async fn what_a_budget_has_no_room_for_is_not_written_and_the_next_that_fits_is() {
        for ground in grounds().await {
            let store = replica(&ground, &[ONE]).await;
            let budget = allowance(2 * WORST + 5);
            let (first, second) = (transaction(ONE, 0, budget), transaction(ONE, 1, budget));
            store.sign(&first, &[]).await.unwrap();
            store.sign(&second, &[]).await.unwrap();

            let refused = over(store.sign(&transaction(ONE, 2, budget), &[]).await);
            assert_eq!(refused, OverBudget { taken: 2 * WORST, next: WORST, budget: 2 * WORST + 5 });
            let refused = over(store.replace(second.id, &again(&second, 2, WORST + 6, budget)).await);
            assert_eq!((refused.taken, refused.next), (2 * WORST, 6), "what it may cost more");
            let open = store.open_transactions(ONE).await.unwrap();
            assert_eq!(open.iter().map(|open| open.attempts.len()).collect::<Vec<_>>(), [1, 1]);

            store.replace(second.id, &again(&second, 2, WORST + 5, budget)).await.unwrap();
            // No dearer than what is out already, though nothing is left.
            store.replace(second.id, &again(&second, 3, WORST + 5, budget)).await.unwrap();
            // What must go out does, and counts.
            store.sign(&transaction(ONE, 2, None), &[]).await.unwrap();
            assert_eq!(over(store.sign(&transaction(ONE, 3, budget), &[]).await).taken, 3 * WORST + 5);
        }
    }

    #[tokio::test]
    async fn of_many_that_would_spend_the_last_of_a_budget_at_once_as_many_do_as_it_has_room_for() {
        const ROOM: usize = 3;
        for ground in grounds().await {
            let signers: Vec<_> = (1..=8).map(Address::repeat_byte).collect();
            let (here, there) = signers.split_at(4);
            let stores = match &ground {
                Ground::Sqlite(_) => vec![replica(&ground, &signers).await; 2],
                Ground::Postgres(_) => vec![replica(&ground, here).await, replica(&ground, there).await],
            };
            let holder = |signer: &Address| &stores[usize::from(there.contains(signer))];
            for round in 0..10 {
                let room = WORST * (ROOM as u128 * (round + 1)) + WORST / 2;
                let all =
                    signers.iter().map(|signer| (holder(signer), transaction(*signer, round as u64, allowance(room))));
                let signed = all.map(async |(store, new)| store.sign(&new, &[]).await);
                let signed = join_all(signed).await;
                let refused: Vec<_> = signed.into_iter().filter(Result::is_err).map(over).collect();
                assert_eq!(signers.len() - refused.len(), ROOM, "round {round}: {refused:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_a_restored_store_finds_on_chain_was_paid_on_the_day_of_its_block() {
        for ground in grounds().await {
            let store = replica(&ground, &[ONE]).await;
            let block = Block { number: 7, hash: B256::repeat_byte(7), time: at(70) };
            let cost = Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: None };
            let (attempt, gas_limit, batch_size) = (version(ONE, 0, 1), 50_000, 1);
            let found = Recognised { signer: ONE, nonce: 0, gas_limit, batch_size, attempt, block, cost };
            store.recognise(&found, at(200)).await.unwrap();
            assert_eq!(store.spending(at(70)).await.unwrap().spent, 120_000);
            assert_eq!(store.spending(at(71)).await.unwrap().spent, 0, "another day");
        }
    }

    #[tokio::test]
    async fn what_was_spent_early_in_the_day_and_just_now_by_whichever_replica_counts() {
        for ground in grounds().await {
            let store = replica(&ground, &[ONE]).await;
            let today = |now, budget| Some(Allowance { budget, since: at(50), at: at(now), whole: true });
            let cost = Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: None };
            let block = Block { number: 7, hash: B256::repeat_byte(7), time: at(99) };
            let include = async |nonce: u64, seconds| {
                let new = transaction(ONE, nonce, None);
                store.sign(&new, &[]).await.unwrap();
                let inclusion = Inclusion { hash: new.attempt.hash, block, cost };
                store.included(new.id, &inclusion, &[], false, at(seconds)).await.unwrap();
            };
            for (now, nonce) in [(120, 0), (1_000, 1), (1_001, 2), (1_059, 3), (5_000, 4)] {
                include(nonce, now - 1).await;
                let spent = 120_000 * u128::from(nonce + 1);
                let refused = over(store.sign(&transaction(ONE, 100, today(now, spent + WORST - 1)), &[]).await);
                assert_eq!(refused.taken, spent, "at {now}");
            }
        }
    }

    #[tokio::test]
    async fn a_replica_that_is_frozen_while_it_spends_keeps_nobody_from_accepting_renewing_or_filling_a_gap() {
        let ground = Ground::postgres().await;
        let signers: Vec<_> = (1..=8).map(Address::repeat_byte).collect();
        let (frozen, store) = (replica(&ground, &[]).await, replica(&ground, &[]).await);
        let mut leases = Vec::new();
        for signer in &signers {
            leases.push(store.acquire(*signer).await.unwrap().unwrap());
        }
        let budget = allowance(100 * WORST);
        let held = frozen.spend(budget).await.unwrap();

        // All lanes would spend, and each is told that it cannot.
        let lanes =
            join_all(signers.iter().map(async |signer| store.sign(&transaction(*signer, 0, budget), &[]).await));
        let others = async {
            for lease in &leases {
                assert!(store.renew(*lease).await.unwrap());
                store.sign(&transaction(lease.signer, 1, None), &[]).await.unwrap();
            }
        };
        let (refused, ()) = tokio::join!(lanes, others);
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        let open = store.open_transactions(ONE).await.unwrap();
        assert_eq!(open.iter().map(|open| open.nonce).collect::<Vec<_>>(), [1]);

        drop(held);
        store.sign(&transaction(ONE, 2, budget), &[]).await.unwrap();
    }
}

//! What transactions have cost, and may cost; and the one place where a day's budget is held.

use super::{Store, StoreError, db_transaction::DbTransaction, rows::RowReader, spent_cache::SpentCache};
use crate::{
    registration::{
        Cost, Timestamp, TransactionId,
        policy::budget::{DailyBudget, Spending},
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
pub(super) const SPENDING_SQL: &str = "SELECT CAST(NULL AS DOUBLE PRECISION), t.id, a.worst_cost, t.gas_limit, a.max_fee_per_gas \
     FROM transactions t CROSS JOIN attempts a \
     WHERE a.transaction_id = t.id AND t.state IN ('signed', 'submitted', 'included') AND t.state <> 'included' \
     UNION ALL \
     SELECT COALESCE(SUM(CAST(gas_used AS DOUBLE PRECISION) * CAST(effective_gas_price AS DOUBLE PRECISION) \
     + CAST(COALESCE(l1_fee, '0') AS DOUBLE PRECISION)), 0.0), NULL, NULL, NULL, NULL FROM transactions \
     WHERE included_at >= $1 AND gas_used IS NOT NULL";
/// Replicas that may spend of one budget do it one after the other: a lock of the database's, ended with its transaction. The
/// number says `spending` in ASCII. A replica that is frozen while it has the lock keeps the others waiting until the server ends its
/// session; they ask again later, and hold no connection meanwhile. What is waited for after that is waited for as ever.
const BUDGET_LOCK_SQL: &str = "SET LOCAL lock_timeout = '1s'; SELECT pg_advisory_xact_lock(8318260036558745191); SET LOCAL lock_timeout TO DEFAULT";
/// The lanes of one replica wait this long for each other.
const BUDGET_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The turn to spend of a budget, among the lanes of this process.
pub(super) struct BudgetLock {
    daily_budget: DailyBudget,
    spent_cache: SpentCache,
    _held: OwnedMutexGuard<Option<SpentCache>>,
}

impl Store {
    /// A transaction that reverted was paid for all the same.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn record_revert_cost(&self, id: TransactionId, cost: &Cost, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write_for_tx(id).await?;
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
        let rows = sqlx::query(SPENDING_SQL).bind(since.micros()).fetch_all(&self.reader).await?;
        let spending = read_spending(&rows)?;
        metrics().set_daily_spend(spending.committed());
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
    pub(super) async fn begin_budgeted_write(
        &self,
        allowance: Option<DailyBudget>,
    ) -> Result<(Option<BudgetLock>, DbTransaction), StoreError> {
        let Some(allowance) = allowance else { return Ok((None, DbTransaction::begin(&self.writer).await?)) };
        let mut turn = timeout(BUDGET_LOCK_TIMEOUT, self.budget_lock.clone().lock_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?;
        let settled = self.cached_spent(*turn, &allowance).await?;
        *turn = Some(settled);
        let mut write = DbTransaction::begin(&self.writer).await?;
        if self.engine.has_transaction_locks() {
            sqlx::raw_sql(BUDGET_LOCK_SQL).execute(&mut *write).await?;
        }
        Ok((Some(BudgetLock { daily_budget: allowance, spent_cache: settled, _held: turn }), write))
    }

    /// Goes on with a write that makes a version of this transaction, which may cost `worst` wei, if the day's allowance has room for
    /// it. Without one nothing is asked.
    ///
    /// # Errors
    /// [`StoreError::OverBudget`] when it has no room; then nothing was written.
    pub(super) async fn reserve_budget(
        &self,
        turn: Option<&BudgetLock>,
        (id, worst): (TransactionId, u128),
        mut write: DbTransaction,
    ) -> Result<DbTransaction, StoreError> {
        let Some(BudgetLock { daily_budget: allowance, spent_cache: settled, .. }) = turn else { return Ok(write) };
        let rows = sqlx::query(SPENDING_SQL).bind(settled.until.micros()).fetch_all(&mut *write).await?;
        let mut spending = read_spending(&rows)?;
        spending.spent = spending.spent.saturating_add(settled.spent);
        if let Err(over) = spending.check(id, worst, allowance) {
            metrics().set_daily_spend(spending.committed());
            write.rollback().await?;
            return Err(StoreError::OverBudget(over));
        }
        spending.reserve(id, worst);
        metrics().set_daily_spend(spending.committed());
        Ok(write)
    }
}

/// Reads the rows of [`SPENDING`].
fn read_spending(rows: &[AnyRow]) -> Result<Spending, StoreError> {
    let mut spending = Spending::default();
    for row in rows {
        let mut c = RowReader::new(row);
        if let Some(spent) = c.get::<Option<f64>>()? {
            // A sum of fees is far below what the type holds, and never negative.
            spending.spent = spent as u128;
            continue;
        }
        let (id, known) = (TransactionId::from_bytes(c.bytes()?), c.wei()?);
        let (gas, fee) = (c.unsigned()?.unwrap_or_default(), c.unsigned()?.unwrap_or_default());
        spending.reserve(id, known.unwrap_or(u128::from(gas) * u128::from(fee)));
    }
    Ok(spending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{Block, policy::budget::OverBudget, policy::fees::Fees},
        store::{Attempt, ImportedTransaction, Inclusion, NewTransaction, Replacement, testing::TestDatabase},
    };
    use alloy::primitives::{Address, B256};
    use futures_util::future::join_all;

    /// At what its gas is offered for, and 1,000 wei beside.
    const MAX_COST: u128 = 50_000 * 5 + 1_000;

    /// Both engines, each with a fresh database.
    async fn databases() -> [TestDatabase; 2] {
        [TestDatabase::sqlite(), TestDatabase::postgres().await]
    }

    /// A replica that acts for these signers.
    async fn replica(ground: &TestDatabase, signers: &[Address]) -> Store {
        let store = Store::open(&ground.settings(), 100).await.unwrap();
        for signer in signers {
            store.acquire_lease(*signer).await.unwrap().unwrap();
        }
        store
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn allowance(budget: u128) -> Option<DailyBudget> {
        Some(DailyBudget { limit: budget, day_start: at(50), now: at(60), may_use_reserve: true })
    }

    fn version(signer: Address, nonce: u64, number: u8) -> Attempt {
        let hash = [signer.as_slice(), &nonce.to_be_bytes()[4..], &[number; 8]].concat();
        let fees = Fees { max_fee_per_gas: 5, max_priority_fee_per_gas: 1 };
        Attempt { hash: B256::from_slice(&hash), raw: vec![number].into(), fees }
    }

    fn transaction(signer: Address, nonce: u64, allowance: Option<DailyBudget>) -> NewTransaction {
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
            max_cost: MAX_COST,
            daily_budget: allowance,
        }
    }

    fn replacement_of(
        of: &NewTransaction,
        number: u8,
        worst_cost: u128,
        allowance: Option<DailyBudget>,
    ) -> Replacement {
        let attempt = version(of.signer, of.nonce, number);
        let (number, signed_at) = (number.into(), at(61));
        Replacement {
            attempt,
            number,
            gas_limit: 50_000,
            batch_size: 1,
            signed_at,
            max_cost: worst_cost,
            daily_budget: allowance,
        }
    }

    fn expect_over_budget(result: Result<(), StoreError>) -> OverBudget {
        match result {
            Err(StoreError::OverBudget(over)) => over,
            other => panic!("{other:?}"),
        }
    }

    const ONE: Address = Address::repeat_byte(1);

    #[tokio::test]
    async fn what_was_spent_today_and_what_is_out_at_its_worst_is_known_to_the_wei() {
        for ground in databases().await {
            let store = replica(&ground, &[ONE]).await;
            let (first, second) = (transaction(ONE, 0, None), transaction(ONE, 1, None));
            store.insert_signed_transaction(&first, &[]).await.unwrap();
            store.insert_signed_transaction(&second, &[]).await.unwrap();
            let taken = async |since| store.spending(at(since)).await.unwrap().committed();
            assert_eq!(taken(0).await, 2 * MAX_COST);

            store.insert_replacement(second.id, &replacement_of(&second, 2, MAX_COST - 10, None)).await.unwrap();
            assert_eq!(taken(0).await, 2 * MAX_COST, "either version may be included");
            store.insert_replacement(second.id, &replacement_of(&second, 3, MAX_COST + 7, None)).await.unwrap();
            assert_eq!(taken(0).await, 2 * MAX_COST + 7);

            let block = Block { number: 7, hash: B256::repeat_byte(7), time: at(99) };
            let cost = Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: Some(7) };
            let inclusion = Inclusion { hash: first.attempt.hash, block, cost };
            store.mark_included(first.id, &inclusion, &[], false, at(100)).await.unwrap();
            let spent = 40_000 * 3 + 7;
            assert_eq!(store.spending(at(100)).await.unwrap().spent, spent);
            assert_eq!(taken(100).await, spent + MAX_COST + 7);
            assert_eq!(taken(101).await, MAX_COST + 7, "on another day");
            store.mark_reorged(first.id, at(102)).await.unwrap();
            assert_eq!(taken(0).await, 2 * MAX_COST + 7, "a block that is gone cost nothing");
        }
    }

    #[tokio::test]
    async fn what_an_earlier_release_signed_counts_by_its_gas() {
        let store = replica(&TestDatabase::sqlite(), &[ONE]).await;
        store.insert_signed_transaction(&transaction(ONE, 0, None), &[]).await.unwrap();
        sqlx::query("UPDATE attempts SET worst_cost = NULL").execute(&store.writer).await.unwrap();
        assert_eq!(store.spending(at(0)).await.unwrap().committed(), 50_000 * 5);
    }

    #[tokio::test]
    async fn what_a_budget_has_no_room_for_is_not_written_and_the_next_that_fits_is() {
        for ground in databases().await {
            let store = replica(&ground, &[ONE]).await;
            let budget = allowance(2 * MAX_COST + 5);
            let (first, second) = (transaction(ONE, 0, budget), transaction(ONE, 1, budget));
            store.insert_signed_transaction(&first, &[]).await.unwrap();
            store.insert_signed_transaction(&second, &[]).await.unwrap();

            let refused = expect_over_budget(store.insert_signed_transaction(&transaction(ONE, 2, budget), &[]).await);
            assert_eq!(refused, OverBudget { committed: 2 * MAX_COST, next_cost: MAX_COST, budget: 2 * MAX_COST + 5 });
            let refused = expect_over_budget(
                store.insert_replacement(second.id, &replacement_of(&second, 2, MAX_COST + 6, budget)).await,
            );
            assert_eq!((refused.committed, refused.next_cost), (2 * MAX_COST, 6), "what it may cost more");
            let open = store.open_transactions(ONE).await.unwrap();
            assert_eq!(open.iter().map(|open| open.attempts.len()).collect::<Vec<_>>(), [1, 1]);

            store.insert_replacement(second.id, &replacement_of(&second, 2, MAX_COST + 5, budget)).await.unwrap();
            // No dearer than what is out already, though nothing is left.
            store.insert_replacement(second.id, &replacement_of(&second, 3, MAX_COST + 5, budget)).await.unwrap();
            // What must go out does, and counts.
            store.insert_signed_transaction(&transaction(ONE, 2, None), &[]).await.unwrap();
            assert_eq!(
                expect_over_budget(store.insert_signed_transaction(&transaction(ONE, 3, budget), &[]).await).committed,
                3 * MAX_COST + 5
            );
        }
    }

    #[tokio::test]
    async fn of_many_that_would_spend_the_last_of_a_budget_at_once_as_many_do_as_it_has_room_for() {
        const ROOM: usize = 3;
        for ground in databases().await {
            let signers: Vec<_> = (1..=8).map(Address::repeat_byte).collect();
            let (here, there) = signers.split_at(4);
            let stores = match &ground {
                TestDatabase::Sqlite(_) => vec![replica(&ground, &signers).await; 2],
                TestDatabase::Postgres(_) => vec![replica(&ground, here).await, replica(&ground, there).await],
            };
            let holder = |signer: &Address| &stores[usize::from(there.contains(signer))];
            for round in 0..10 {
                let room = MAX_COST * (ROOM as u128 * (round + 1)) + MAX_COST / 2;
                let all =
                    signers.iter().map(|signer| (holder(signer), transaction(*signer, round as u64, allowance(room))));
                let signed = all.map(async |(store, new)| store.insert_signed_transaction(&new, &[]).await);
                let signed = join_all(signed).await;
                let refused: Vec<_> = signed.into_iter().filter(Result::is_err).map(expect_over_budget).collect();
                assert_eq!(signers.len() - refused.len(), ROOM, "round {round}: {refused:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_a_restored_store_finds_on_chain_was_paid_on_the_day_of_its_block() {
        for ground in databases().await {
            let store = replica(&ground, &[ONE]).await;
            let block = Block { number: 7, hash: B256::repeat_byte(7), time: at(70) };
            let cost = Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: None };
            let (attempt, gas_limit, batch_size) = (version(ONE, 0, 1), 50_000, 1);
            let found = ImportedTransaction { signer: ONE, nonce: 0, gas_limit, batch_size, attempt, block, cost };
            store.import_transaction(&found, at(200)).await.unwrap();
            assert_eq!(store.spending(at(70)).await.unwrap().spent, 120_000);
            assert_eq!(store.spending(at(71)).await.unwrap().spent, 0, "another day");
        }
    }

    #[tokio::test]
    async fn what_was_spent_early_in_the_day_and_just_now_by_whichever_replica_counts() {
        for ground in databases().await {
            let store = replica(&ground, &[ONE]).await;
            let today = |now, budget| {
                Some(DailyBudget { limit: budget, day_start: at(50), now: at(now), may_use_reserve: true })
            };
            let cost = Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: None };
            let block = Block { number: 7, hash: B256::repeat_byte(7), time: at(99) };
            let include = async |nonce: u64, seconds| {
                let new = transaction(ONE, nonce, None);
                store.insert_signed_transaction(&new, &[]).await.unwrap();
                let inclusion = Inclusion { hash: new.attempt.hash, block, cost };
                store.mark_included(new.id, &inclusion, &[], false, at(seconds)).await.unwrap();
            };
            for (now, nonce) in [(120, 0), (1_000, 1), (1_001, 2), (1_059, 3), (5_000, 4)] {
                include(nonce, now - 1).await;
                let spent = 120_000 * u128::from(nonce + 1);
                let refused = expect_over_budget(
                    store
                        .insert_signed_transaction(&transaction(ONE, 100, today(now, spent + MAX_COST - 1)), &[])
                        .await,
                );
                assert_eq!(refused.committed, spent, "at {now}");
            }
        }
    }

    #[tokio::test]
    async fn a_replica_that_is_frozen_while_it_spends_keeps_nobody_from_accepting_renewing_or_filling_a_gap() {
        let ground = TestDatabase::postgres().await;
        let signers: Vec<_> = (1..=8).map(Address::repeat_byte).collect();
        let (frozen, store) = (replica(&ground, &[]).await, replica(&ground, &[]).await);
        let mut leases = Vec::new();
        for signer in &signers {
            leases.push(store.acquire_lease(*signer).await.unwrap().unwrap());
        }
        let budget = allowance(100 * MAX_COST);
        let held = frozen.begin_budgeted_write(budget).await.unwrap();

        // All lanes would spend, and each is told that it cannot.
        let lanes = join_all(
            signers
                .iter()
                .map(async |signer| store.insert_signed_transaction(&transaction(*signer, 0, budget), &[]).await),
        );
        let others = async {
            for lease in &leases {
                assert!(store.renew_lease(*lease).await.unwrap());
                store.insert_signed_transaction(&transaction(lease.signer, 1, None), &[]).await.unwrap();
            }
        };
        let (refused, ()) = tokio::join!(lanes, others);
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        let open = store.open_transactions(ONE).await.unwrap();
        assert_eq!(open.iter().map(|open| open.nonce).collect::<Vec<_>>(), [1]);

        drop(held);
        store.insert_signed_transaction(&transaction(ONE, 2, budget), &[]).await.unwrap();
    }
}

//! What transactions have cost and may cost, and the only place that enforces the daily budget.

use super::{
    Store, StoreError,
    bind::bind_cost,
    db_transaction::DbTransaction,
    query::{Row, query},
    rows::RowReader,
    spent_cache::SpentCache,
    transact::Fence,
};
use crate::{
    registration::{
        Cost, Timestamp, TransactionId,
        policy::budget::{DailyBudget, Spending},
    },
    telemetry::{metrics, spans},
};
use std::time::Duration;
use tokio::{sync::OwnedMutexGuard, time::timeout};

/// A row for each attempt of each pending transaction, and one with the fees of everything included since a time. One
/// statement, so that a transaction that is included meanwhile is in exactly one of the two parts. The fees of a day
/// are summed as floating-point numbers, which PostgreSQL and SQLite do alike, with an error far below a millionth of a
/// gwei. `CROSS JOIN` keeps SQLite from scanning all attempts (<https://www.sqlite.org/optoverview.html#crossjoin>); to
/// PostgreSQL it is an ordinary join.
pub(super) const SPENDING_SQL: &str = "SELECT CAST(NULL AS DOUBLE PRECISION), t.id, a.worst_cost, t.gas_limit, \
    a.max_fee_per_gas FROM transactions t CROSS JOIN attempts a WHERE a.transaction_id = t.id AND t.state IN \
    ('signed', 'submitted', 'included') AND t.state <> 'included' UNION ALL SELECT COALESCE(SUM(CAST(gas_used AS \
    DOUBLE PRECISION) * CAST(effective_gas_price AS DOUBLE PRECISION) + CAST(COALESCE(l1_fee, '0') AS DOUBLE \
    PRECISION)), 0.0), NULL, NULL, NULL, NULL FROM transactions WHERE included_at >= $1 AND gas_used IS NOT NULL";
/// The fees of what was included in an interval.
pub(super) const SPENT_BETWEEN_SQL: &str = "SELECT COALESCE(SUM(CAST(gas_used AS DOUBLE PRECISION) * \
    CAST(effective_gas_price AS DOUBLE PRECISION) + CAST(COALESCE(l1_fee, '0') AS DOUBLE PRECISION)), 0.0) FROM \
    transactions WHERE included_at >= $1 AND included_at < $2 AND gas_used IS NOT NULL";
/// Serializes the replicas that share a budget; the lock ends with its transaction. The number is `spending` in ASCII.
/// A replica that is frozen while it holds the lock blocks the others until the server ends its session; they time out,
/// hold no connection meanwhile, and try again later. Later waits in the transaction have their usual timeout.
const BUDGET_LOCK_SQL: &str = "SET LOCAL lock_timeout = '1s'; SELECT pg_advisory_xact_lock(8318260036558745191); \
    SET LOCAL lock_timeout TO DEFAULT";
/// For the senders of one replica to wait for each other.
const BUDGET_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Held by the sender of this process that spends from the budget, until its write ends.
pub(super) struct BudgetLock {
    daily_budget: DailyBudget,
    spent_cache: SpentCache,
    _guard: OwnedMutexGuard<Option<SpentCache>>,
}

/// What a write would spend.
pub(super) struct Expense {
    pub(super) transaction: TransactionId,
    /// In wei.
    pub(super) max_cost: u128,
    /// `None` if there is no limit for it.
    pub(super) daily_budget: Option<DailyBudget>,
}

impl Store {
    /// The cost of a reverted transaction.
    pub async fn record_revert_cost(&self, id: TransactionId, cost: &Cost, at: Timestamp) -> Result<(), StoreError> {
        self.transact("record_revert_cost", Fence::Transaction(id), async |tx| {
            let query = query(
                "UPDATE transactions SET included_at = $1, gas_used = $2, effective_gas_price = $3, l1_fee = $4 WHERE \
                 id = $5",
            );
            bind_cost(query.bind(at), cost).bind(id).execute(&mut **tx).await?;
            Ok(())
        })
        .await
    }

    /// What every signer has spent since then, and what pending transactions may cost.
    pub async fn spending(&self, since: Timestamp) -> Result<Spending, StoreError> {
        let query = query(SPENDING_SQL).bind(since);
        let spending = read_spending(&spans::db("spending", query.fetch_all(&self.reader)).await?)?;
        metrics().set_daily_spend(spending.committed());
        Ok(spending)
    }

    /// [`Store::transact`] for a write that spends. [`StoreError::OverBudget`] if the rest of the budget is too small.
    pub(super) async fn transact_budgeted<T>(
        &self,
        name: &'static str,
        fence: Fence,
        expense: Expense,
        write: impl AsyncFnOnce(&mut DbTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let run = async {
            // Held until the commit.
            let (lock, mut tx) = self.begin_budgeted_write(expense.daily_budget).await?;
            self.check_fence(&mut tx, fence).await?;
            if let Some(lock) = &lock
                && let Err(error) = reserve_budget(lock, &expense, &mut tx).await
            {
                if matches!(error, StoreError::OverBudget(_)) {
                    tx.rollback().await?;
                }
                return Err(error);
            }
            let result = write(&mut tx).await?;
            self.commit(tx).await?;
            Ok(result)
        };
        spans::db(name, run).await
    }

    /// Begins a write that spends. Until it ends no other such write begins: SQLite has one writer, and on PostgreSQL
    /// the next one waits here. So the budget holds, whichever replicas sign at the same moment. The lock comes first:
    /// a write that waits for it has locked nothing else, such as the row of a lease. And of the senders of one process
    /// only one waits for another replica, with one connection: the others stay free for everything else. Without a
    /// budget there is no lock.
    pub(super) async fn begin_budgeted_write(
        &self,
        daily_budget: Option<DailyBudget>,
    ) -> Result<(Option<BudgetLock>, DbTransaction), StoreError> {
        let Some(daily_budget) = daily_budget else {
            return Ok((None, DbTransaction::begin(&self.writer, &self.change_numbers).await?));
        };
        let mut guard = timeout(BUDGET_LOCK_TIMEOUT, self.budget_lock.clone().lock_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?;
        let spent_cache = self.cached_spent(*guard, &daily_budget).await?;
        *guard = Some(spent_cache);
        let lock = self.engine.has_transaction_locks().then_some(BUDGET_LOCK_SQL);
        let tx = DbTransaction::begin_after(&self.writer, &self.change_numbers, lock).await?;
        Ok((Some(BudgetLock { daily_budget, spent_cache, _guard: guard }), tx))
    }

    /// What was spent on the budget's day until a while ago, from `cached` as long as that is fresh.
    async fn cached_spent(&self, cached: Option<SpentCache>, now: &DailyBudget) -> Result<SpentCache, StoreError> {
        if let Some(cached) = cached.filter(|cached| cached.is_fresh_for(now)) {
            return Ok(cached);
        }
        let next = SpentCache::new_for(now);
        if next.is_empty() {
            return Ok(next);
        }
        let query = query(SPENT_BETWEEN_SQL).bind(now.day_start).bind(next.until);
        let row = query.fetch_one(&self.reader).await?;
        Ok(SpentCache { spent: wei(RowReader::new(&row).get()?), ..next })
    }
}

/// Fails with [`StoreError::OverBudget`] if the rest of the budget is too small.
async fn reserve_budget(lock: &BudgetLock, expense: &Expense, tx: &mut DbTransaction) -> Result<(), StoreError> {
    let rows = query(SPENDING_SQL).bind(lock.spent_cache.until).fetch_all(&mut **tx).await?;
    let mut spending = read_spending(&rows)?;
    spending.spent = spending.spent.saturating_add(lock.spent_cache.spent);
    let checked = spending.check(expense.transaction, expense.max_cost, &lock.daily_budget);
    if checked.is_ok() {
        spending.reserve(expense.transaction, expense.max_cost);
    }
    metrics().set_daily_spend(spending.committed());
    checked.map_err(StoreError::OverBudget)
}

/// Reads the rows of [`SPENDING_SQL`].
fn read_spending(rows: &[Row]) -> Result<Spending, StoreError> {
    let mut spending = Spending::default();
    for row in rows {
        let mut c = RowReader::new(row);
        if let Some(spent) = c.get::<Option<f64>>()? {
            spending.spent = wei(spent);
            continue;
        }
        let (id, max_cost, gas_limit, max_fee) = (c.transaction_id()?, c.wei()?, c.number()?, c.number()?);
        // Earlier releases did not store the maximum cost.
        spending.reserve(id, max_cost.unwrap_or(u128::from(gas_limit) * u128::from(max_fee)));
    }
    Ok(spending)
}

/// A sum of fees is far below what the type holds, and never negative.
fn wei(sum: f64) -> u128 {
    sum as u128
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

    /// The gas limit at the maximum fee, and 1,000 wei of L1 fee.
    const MAX_COST: u128 = 50_000 * 5 + 1_000;

    /// Both engines, each with a fresh database.
    async fn databases() -> [TestDatabase; 2] {
        [TestDatabase::sqlite(), TestDatabase::postgres().await]
    }

    /// A replica that holds the leases of these signers.
    async fn replica(database: &TestDatabase, signers: &[Address]) -> Store {
        let store = Store::open(&database.settings(), 100).await.unwrap();
        for signer in signers {
            store.acquire_lease(*signer).await.unwrap().unwrap();
        }
        store
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn budget(limit: u128) -> Option<DailyBudget> {
        Some(DailyBudget { limit, day_start: at(50), now: at(60), may_use_reserve: true })
    }

    fn attempt_of(signer: Address, nonce: u64, number: u8) -> Attempt {
        let hash = [signer.as_slice(), &nonce.to_be_bytes()[4..], &[number; 8]].concat();
        let fees = Fees { max_fee_per_gas: 5, max_priority_fee_per_gas: 1 };
        Attempt { hash: B256::from_slice(&hash), raw: vec![number].into(), fees }
    }

    fn transaction(signer: Address, nonce: u64, daily_budget: Option<DailyBudget>) -> NewTransaction {
        let mut id = [nonce as u8; 16];
        id[0] = signer[0];
        NewTransaction {
            id: TransactionId::from_bytes(id),
            signer,
            nonce,
            gas_limit: 50_000,
            prepared_at: at(60),
            signed_at: at(60),
            attempt: attempt_of(signer, nonce, 1),
            max_cost: MAX_COST,
            daily_budget,
        }
    }

    fn replacement_of(
        of: &NewTransaction,
        number: u8,
        max_cost: u128,
        daily_budget: Option<DailyBudget>,
    ) -> Replacement {
        let attempt = attempt_of(of.signer, of.nonce, number);
        let (number, signed_at) = (number.into(), at(61));
        Replacement { attempt, number, gas_limit: 50_000, batch_size: 1, signed_at, max_cost, daily_budget }
    }

    fn expect_over_budget(result: Result<(), StoreError>) -> OverBudget {
        match result {
            Err(StoreError::OverBudget(over)) => over,
            other => panic!("{other:?}"),
        }
    }

    const ONE: Address = Address::repeat_byte(1);

    #[tokio::test]
    async fn spending_is_todays_fees_and_the_maximum_cost_of_pending_transactions() {
        for database in databases().await {
            let store = replica(&database, &[ONE]).await;
            let (first, second) = (transaction(ONE, 0, None), transaction(ONE, 1, None));
            store.insert_signed_transaction(&first, &[]).await.unwrap();
            store.insert_signed_transaction(&second, &[]).await.unwrap();
            let committed = async |since| store.spending(at(since)).await.unwrap().committed();
            assert_eq!(committed(0).await, 2 * MAX_COST);

            store.insert_replacement(second.id, &replacement_of(&second, 2, MAX_COST - 10, None)).await.unwrap();
            assert_eq!(committed(0).await, 2 * MAX_COST, "either attempt may be included");
            store.insert_replacement(second.id, &replacement_of(&second, 3, MAX_COST + 7, None)).await.unwrap();
            assert_eq!(committed(0).await, 2 * MAX_COST + 7);

            let block = Block { number: 7, hash: B256::repeat_byte(7), time: at(99) };
            let cost = Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: Some(7) };
            let inclusion = Inclusion { hash: first.attempt.hash, block, cost };
            store.mark_included(first.id, &inclusion, &[], false, at(100)).await.unwrap();
            let spent = 40_000 * 3 + 7;
            assert_eq!(store.spending(at(100)).await.unwrap().spent, spent);
            assert_eq!(committed(100).await, spent + MAX_COST + 7);
            assert_eq!(committed(101).await, MAX_COST + 7, "on another day");
            store.mark_reorged(first.id, at(102)).await.unwrap();
            assert_eq!(committed(0).await, 2 * MAX_COST + 7, "a reorged block cost nothing");
        }
    }

    #[tokio::test]
    async fn an_attempt_of_an_earlier_release_counts_with_its_gas_limit() {
        let database = TestDatabase::sqlite();
        let store = replica(&database, &[ONE]).await;
        store.insert_signed_transaction(&transaction(ONE, 0, None), &[]).await.unwrap();
        query("UPDATE attempts SET worst_cost = NULL").execute(&store.writer).await.unwrap();
        assert_eq!(store.spending(at(0)).await.unwrap().committed(), 50_000 * 5);
    }

    #[tokio::test]
    async fn a_transaction_over_the_budget_is_not_written_and_the_next_that_fits_is() {
        for database in databases().await {
            let store = replica(&database, &[ONE]).await;
            let day = budget(2 * MAX_COST + 5);
            let (first, second) = (transaction(ONE, 0, day), transaction(ONE, 1, day));
            store.insert_signed_transaction(&first, &[]).await.unwrap();
            store.insert_signed_transaction(&second, &[]).await.unwrap();

            let rejected = expect_over_budget(store.insert_signed_transaction(&transaction(ONE, 2, day), &[]).await);
            assert_eq!(rejected, OverBudget { committed: 2 * MAX_COST, next_cost: MAX_COST, budget: 2 * MAX_COST + 5 });
            let rejected = expect_over_budget(
                store.insert_replacement(second.id, &replacement_of(&second, 2, MAX_COST + 6, day)).await,
            );
            assert_eq!(
                (rejected.committed, rejected.next_cost),
                (2 * MAX_COST, 6),
                "the difference to its other attempts"
            );
            let open = store.open_transactions(ONE).await.unwrap();
            assert_eq!(open.iter().map(|open| open.attempts.len()).collect::<Vec<_>>(), [1, 1]);

            store.insert_replacement(second.id, &replacement_of(&second, 2, MAX_COST + 5, day)).await.unwrap();
            // Costs no more than the pending attempts, though nothing is left.
            store.insert_replacement(second.id, &replacement_of(&second, 3, MAX_COST + 5, day)).await.unwrap();
            // Without a budget it is always written, and counts.
            store.insert_signed_transaction(&transaction(ONE, 2, None), &[]).await.unwrap();
            assert_eq!(
                expect_over_budget(store.insert_signed_transaction(&transaction(ONE, 3, day), &[]).await).committed,
                3 * MAX_COST + 5
            );
        }
    }

    #[tokio::test]
    async fn concurrent_transactions_never_exceed_the_budget() {
        const ROOM: usize = 3;
        for database in databases().await {
            let signers: Vec<_> = (1..=8).map(Address::repeat_byte).collect();
            let (here, there) = signers.split_at(4);
            let stores = match &database {
                TestDatabase::Sqlite(_) => vec![replica(&database, &signers).await; 2],
                TestDatabase::Postgres(_) => vec![replica(&database, here).await, replica(&database, there).await],
            };
            let holder = |signer: &Address| &stores[usize::from(there.contains(signer))];
            for round in 0..10 {
                let room = MAX_COST * (ROOM as u128 * (round + 1)) + MAX_COST / 2;
                let all =
                    signers.iter().map(|signer| (holder(signer), transaction(*signer, round as u64, budget(room))));
                let signed = all.map(async |(store, new)| store.insert_signed_transaction(&new, &[]).await);
                let signed = join_all(signed).await;
                let rejected: Vec<_> = signed.into_iter().filter(Result::is_err).map(expect_over_budget).collect();
                assert_eq!(signers.len() - rejected.len(), ROOM, "round {round}: {rejected:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_imported_transaction_was_paid_on_the_day_of_its_block() {
        for database in databases().await {
            let store = replica(&database, &[ONE]).await;
            let block = Block { number: 7, hash: B256::repeat_byte(7), time: at(70) };
            let cost = Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: None };
            let (attempt, gas_limit, batch_size) = (attempt_of(ONE, 0, 1), 50_000, 1);
            let found = ImportedTransaction { signer: ONE, nonce: 0, gas_limit, batch_size, attempt, block, cost };
            store.import_transaction(&found, at(200)).await.unwrap();
            assert_eq!(store.spending(at(70)).await.unwrap().spent, 120_000);
            assert_eq!(store.spending(at(71)).await.unwrap().spent, 0, "another day");
        }
    }

    #[tokio::test]
    async fn fees_count_whether_they_are_in_the_cached_sum_or_newer() {
        for database in databases().await {
            let store = replica(&database, &[ONE]).await;
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
                let rejected = expect_over_budget(
                    store
                        .insert_signed_transaction(&transaction(ONE, 100, today(now, spent + MAX_COST - 1)), &[])
                        .await,
                );
                assert_eq!(rejected.committed, spent, "at {now}");
            }
        }
    }

    #[tokio::test]
    async fn a_replica_frozen_while_it_holds_the_budget_lock_blocks_only_budgeted_writes() {
        let database = TestDatabase::postgres().await;
        let signers: Vec<_> = (1..=8).map(Address::repeat_byte).collect();
        let (frozen, store) = (replica(&database, &[]).await, replica(&database, &[]).await);
        let mut leases = Vec::new();
        for signer in &signers {
            leases.push(store.acquire_lease(*signer).await.unwrap().unwrap());
        }
        let day = budget(100 * MAX_COST);
        let lock = frozen.begin_budgeted_write(day).await.unwrap();

        // Every sender tries a budgeted write, and each fails.
        let budgeted = join_all(
            signers
                .iter()
                .map(async |signer| store.insert_signed_transaction(&transaction(*signer, 0, day), &[]).await),
        );
        let others = async {
            for lease in &leases {
                assert!(store.renew_lease(*lease).await.unwrap());
                store.insert_signed_transaction(&transaction(lease.signer, 1, None), &[]).await.unwrap();
            }
        };
        let (rejected, ()) = tokio::join!(budgeted, others);
        assert!(rejected.iter().all(Result::is_err), "{rejected:?}");
        let open = store.open_transactions(ONE).await.unwrap();
        assert_eq!(open.iter().map(|open| open.nonce).collect::<Vec<_>>(), [1]);

        drop(lock);
        store.insert_signed_transaction(&transaction(ONE, 2, day), &[]).await.unwrap();
    }
}

//! What a start has to load: every open transaction with its signed bytes and members, and every block that is not
//! final.

use super::{
    QueuedRegistration, Store, StoreError, StoredObservations,
    observations::{OBSERVATION_COLUMNS, read_observations},
    query::{Row, query},
    rows::{self, RowReader},
};
use crate::{
    registration::{Block, Finality, RegistrationId, State, Timestamp, TransactionId, policy::fees::Fees},
    telemetry::spans,
};
use alloy::primitives::{Address, B256, Bytes};
use std::collections::HashMap;

/// One signed version of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    pub hash: B256,
    /// As broadcast (EIP-2718).
    pub raw: Bytes,
    pub fees: Fees,
}

pub type BatchMember = QueuedRegistration;

/// An own transaction that is signed, submitted or included.
#[derive(Clone, Debug)]
pub struct OpenTransaction {
    pub id: TransactionId,
    pub signer: Address,
    pub nonce: u64,
    /// Of the included attempt, or of the latest one.
    pub hash: B256,
    /// Of the latest attempt.
    pub gas_limit: u64,
    /// Number of registrations in the latest attempt.
    pub batch_size: usize,
    pub state: State,
    /// When its registrations left the queue.
    pub prepared_at: Timestamp,
    pub signed_at: Timestamp,
    /// When a node accepted it.
    pub sent_at: Option<Timestamp>,
    pub block: Option<Block>,
    pub timed_out_at: Option<Timestamp>,
    pub observations: StoredObservations,
    /// The latest last.
    pub attempts: Vec<Attempt>,
    pub members: Vec<BatchMember>,
}

/// The block of a confirmed transaction that is not known to be final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnfinalizedBlock {
    pub id: TransactionId,
    /// `None` for a foreign transaction, which cannot be rebroadcast after a reorg.
    pub signer: Option<Address>,
    pub finality: Finality,
    pub number: u64,
    pub hash: B256,
}

impl UnfinalizedBlock {
    /// The address, of no signer, whose lease covers the blocks of foreign transactions.
    pub const FOREIGN_LEASE: Address = Address::ZERO;

    /// The address whose lease is needed to watch it.
    pub fn lease_address(&self) -> Address {
        self.signer.unwrap_or(Self::FOREIGN_LEASE)
    }
}

/// How much of an open transaction is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Detail {
    /// With the signed bytes and every member, for a replica that acts for the signer.
    Full,
    /// For a diagnosis: without the signed bytes, and with the first member only.
    Summary,
}

/// As in the partial index on open transactions.
const OPEN_CONDITION: &str = "state IN ('signed', 'submitted', 'included')";
/// As in the partial index on blocks that are not final.
const UNFINALIZED_CONDITION: &str = "state = 'confirmed' AND finality IN ('unsafe', 'safe')";
pub(super) const HIGHEST_NONCE_SQL: &str = "SELECT MAX(nonce) FROM transactions WHERE signer = $1";
pub(super) const MEMBER_IDS_SQL: &str = "SELECT id FROM registrations WHERE transaction_id = $1";

pub(super) fn open_count_by_signer_sql() -> String {
    format!("SELECT signer, COUNT(*) FROM transactions WHERE {OPEN_CONDITION} GROUP BY signer")
}

/// [`read_open_transaction`] reads a row.
pub(super) fn open_transactions_sql(condition: &str) -> String {
    format!(
        "SELECT id, signer, nonce, hash, gas_limit, batch_size, state, sent_at, block_number, block_hash, \
         block_time, timed_out_at, prepared_at, signed_at, {OBSERVATION_COLUMNS} FROM transactions WHERE \
         {OPEN_CONDITION} AND {condition} ORDER BY nonce"
    )
}

pub(super) fn open_attempts_sql(condition: &str, detail: Detail) -> String {
    let bytes = match detail {
        Detail::Full => ", raw",
        Detail::Summary => "",
    };
    format!(
        "SELECT transaction_id, hash, max_fee_per_gas, max_priority_fee_per_gas{bytes} FROM attempts \
         WHERE transaction_id IN (SELECT id FROM transactions WHERE {OPEN_CONDITION} AND {condition}) ORDER BY number"
    )
}

/// The first member of each.
pub(super) fn open_first_members_sql(condition: &str) -> String {
    format!(
        "{} WHERE id IN (SELECT (SELECT r.id FROM registrations r WHERE r.transaction_id = transactions.id \
         ORDER BY r.id LIMIT 1) FROM transactions WHERE {OPEN_CONDITION} AND {condition})",
        rows::SELECT_QUEUED
    )
}

pub(super) fn open_members_sql(condition: &str) -> String {
    format!(
        "{} WHERE transaction_id IN (SELECT id FROM transactions WHERE {OPEN_CONDITION} AND {condition}) ORDER BY id",
        rows::SELECT_QUEUED
    )
}

/// Those less than $1 below the newest of them.
pub(super) fn unfinalized_within_depth_sql() -> String {
    format!(
        "{} AND block_number > (SELECT MAX(block_number) FROM transactions WHERE {UNFINALIZED_CONDITION}) - $1",
        unfinalized_sql()
    )
}

/// The lowest ones up to block $1, at most $2.
pub(super) fn unfinalized_up_to_sql() -> String {
    format!("{} AND block_number <= $1 ORDER BY block_number LIMIT $2", unfinalized_sql())
}

fn unfinalized_sql() -> String {
    format!(
        "SELECT id, nonce, signer, finality, block_number, block_hash FROM transactions WHERE {UNFINALIZED_CONDITION}"
    )
}

impl Store {
    /// Every signer with open transactions, and their number.
    pub async fn signers_with_open_transactions(&self) -> Result<Vec<(Address, u64)>, StoreError> {
        let query = query(open_count_by_signer_sql());
        let read = |row: &Row| {
            let mut c = RowReader::new(row);
            Ok((c.bytes()?, c.number()?))
        };
        spans::db("open_signers", query.fetch_all(&self.writer)).await?.iter().map(read).collect()
    }

    /// In the order of nonces.
    pub async fn open_transactions(&self, signer: Address) -> Result<Vec<OpenTransaction>, StoreError> {
        self.select_open("open_transactions", "signer = $1", signer.to_vec(), Detail::Full).await
    }

    /// As [`Self::open_transactions`], for a diagnosis by a replica without the signer's lease: without the signed
    /// bytes, and with the first member only, except for the transaction with the nonce `full`. Does not wait for
    /// writers.
    pub async fn open_transaction_summaries(
        &self,
        signer: Address,
        full: Option<u64>,
    ) -> Result<Vec<OpenTransaction>, StoreError> {
        let mut open = self.select_open("open_summaries", "signer = $1", signer.to_vec(), Detail::Summary).await?;
        if let Some(one) = open.iter_mut().find(|open| Some(open.nonce) == full) {
            let query = query(open_members_sql("id = $1")).bind(one.id);
            let rows = spans::db("members", query.fetch_all(&self.reader)).await?;
            one.members =
                rows.iter().map(|row| rows::read_queued(&mut RowReader::new(row))).collect::<Result<_, _>>()?;
        }
        Ok(open)
    }

    /// `None` if it is not open.
    pub async fn open_transaction(&self, id: TransactionId) -> Result<Option<OpenTransaction>, StoreError> {
        Ok(self.select_open("open_transaction", "id = $1", id.as_bytes().to_vec(), Detail::Full).await?.pop())
    }

    /// Three statements, however many transactions there are.
    async fn select_open(
        &self,
        name: &'static str,
        condition: &str,
        key: Vec<u8>,
        detail: Detail,
    ) -> Result<Vec<OpenTransaction>, StoreError> {
        let (pool, members_sql) = match detail {
            Detail::Full => (&self.writer, open_members_sql(condition)),
            Detail::Summary => (&self.reader, open_first_members_sql(condition)),
        };
        let fetch = async |sql: String| query(sql).bind(key.clone()).fetch_all(pool).await;
        let (open, attempt_rows, member_rows) = spans::db(name, async {
            let open = fetch(open_transactions_sql(condition)).await?;
            let attempts = fetch(open_attempts_sql(condition, detail)).await?;
            Ok::<_, sqlx::Error>((open, attempts, fetch(members_sql).await?))
        })
        .await?;
        let mut attempts: HashMap<TransactionId, Vec<Attempt>> = HashMap::new();
        for row in &attempt_rows {
            let mut c = RowReader::new(row);
            attempts.entry(c.transaction_id()?).or_default().push(read_attempt(&mut c, detail)?);
        }
        let mut members: HashMap<TransactionId, Vec<BatchMember>> = HashMap::new();
        for row in &member_rows {
            let mut c = RowReader::new(row);
            let member = rows::read_queued(&mut c)?;
            members.entry(c.transaction_id()?).or_default().push(member);
        }
        let complete = |row| {
            let mut open = read_open_transaction(row)?;
            open.attempts = attempts.remove(&open.id).unwrap_or_default();
            open.members = members.remove(&open.id).unwrap_or_default();
            Ok(open)
        };
        open.iter().map(complete).collect()
    }

    /// One above the highest nonce of the signer in this database.
    pub async fn next_nonce(&self, signer: Address) -> Result<Option<u64>, StoreError> {
        let query = query(HIGHEST_NONCE_SQL).bind(signer.to_vec());
        let row = spans::db("next_nonce", query.fetch_one(&self.writer)).await?;
        Ok(RowReader::new(&row).unsigned()?.map(|highest| highest + 1))
    }

    /// The blocks that are watched under this lease and less than `depth` below the newest block that is not final.
    pub async fn unfinalized_blocks(&self, lease: Address, depth: u64) -> Result<Vec<UnfinalizedBlock>, StoreError> {
        let query = query(unfinalized_within_depth_sql()).bind(depth.cast_signed());
        let rows = spans::db("unfinalized_blocks", query.fetch_all(&self.reader)).await?;
        let mut blocks = read_unfinalized(&rows)?;
        blocks.retain(|block| block.lease_address() == lease);
        Ok(blocks)
    }

    /// Own signers only.
    pub async fn signers_with_unfinalized(&self) -> Result<Vec<Address>, StoreError> {
        let query = query(
            "SELECT DISTINCT signer FROM transactions WHERE state = 'confirmed' AND finality IN ('unsafe', 'safe') \
             AND nonce IS NOT NULL",
        );
        let rows = spans::db("unfinalized_signers", query.fetch_all(&self.reader)).await?;
        rows.iter().map(|row| RowReader::new(row).bytes()).collect()
    }

    /// The lowest `limit` blocks up to `number` that are not known to be final.
    pub async fn unfinalized_up_to(&self, number: u64, limit: u32) -> Result<Vec<UnfinalizedBlock>, StoreError> {
        let query = query(unfinalized_up_to_sql()).bind(number.cast_signed()).bind(i64::from(limit));
        read_unfinalized(&spans::db("unfinalized_up_to", query.fetch_all(&self.reader)).await?)
    }

    pub async fn member_ids(&self, id: TransactionId) -> Result<Vec<RegistrationId>, StoreError> {
        let query = query(MEMBER_IDS_SQL).bind(id);
        let found = spans::db("member_ids", query.fetch_all(&self.reader)).await?;
        found.iter().map(|row| RowReader::new(row).registration_id()).collect()
    }
}

/// Without its attempts and members.
fn read_open_transaction(row: &Row) -> Result<OpenTransaction, StoreError> {
    let mut c = RowReader::new(row);
    let (id, signer, nonce, hash) = (c.transaction_id()?, c.bytes()?, c.unsigned()?, c.bytes()?);
    let (gas_limit, batch_size) = (c.number()?, c.number()?);
    let (state, sent_at) = (c.code()?, c.time()?);
    let (block, timed_out_at) = (c.block()?, c.time()?);
    let (prepared_at, signed_at) = (c.time()?, c.time()?);
    let signed_at = signed_at.ok_or_else(|| StoreError::corrupt("an open transaction that was not signed"))?;
    Ok(OpenTransaction {
        id,
        signer,
        nonce: nonce.ok_or_else(|| StoreError::corrupt("an open transaction without a nonce"))?,
        hash,
        gas_limit,
        batch_size: usize::try_from(batch_size).unwrap_or(usize::MAX),
        state,
        prepared_at: prepared_at.unwrap_or(signed_at),
        signed_at,
        sent_at,
        block,
        timed_out_at,
        observations: read_observations(&mut c)?,
        attempts: Vec::new(),
        members: Vec::new(),
    })
}

fn read_attempt(c: &mut RowReader<'_>, detail: Detail) -> Result<Attempt, StoreError> {
    let hash = c.bytes()?;
    let fees = Fees { max_fee_per_gas: c.number()?.into(), max_priority_fee_per_gas: c.number()?.into() };
    let raw = match detail {
        Detail::Full => c.get::<Vec<u8>>()?.into(),
        Detail::Summary => Bytes::new(),
    };
    Ok(Attempt { hash, raw, fees })
}

fn read_unfinalized(rows: &[Row]) -> Result<Vec<UnfinalizedBlock>, StoreError> {
    let read = |row| {
        let mut c = RowReader::new(row);
        let (id, nonce, signer) = (c.transaction_id()?, c.unsigned()?, c.bytes()?);
        let (finality, number) = (c.code()?, c.number()?);
        Ok(UnfinalizedBlock { id, signer: nonce.map(|_| signer), finality, number, hash: c.bytes()? })
    };
    rows.iter().map(read).collect()
}

//! What a start has to know: every transaction that is not settled, its bytes and its members.

use super::{
    QueuedRegistration, Store, StoreError, StoredObservations,
    observations::{OBSERVATION_COLUMNS, read_observations},
    rows::{self, RowReader},
};
use crate::registration::{Block, Finality, RegistrationId, State, Timestamp, TransactionId, policy::fees::Fees};
use alloy::primitives::{Address, B256, Bytes};
use sqlx::{AssertSqlSafe, any::AnyRow};
use std::collections::HashMap;

/// One signed version of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Its hash.
    pub hash: B256,
    /// Its bytes (EIP-2718), as they are broadcast.
    pub raw: Bytes,
    /// What it offers.
    pub fees: Fees,
}

/// A registration that a transaction carries.
pub type BatchMember = QueuedRegistration;

/// A transaction of ours that is not settled.
#[derive(Clone, Debug)]
pub struct OpenTransaction {
    /// Its id in the store.
    pub id: TransactionId,
    /// Who signed it.
    pub signer: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// The hash of the version that was included, or of the latest one.
    pub hash: B256,
    /// The latest version's gas limit.
    pub gas_limit: u64,
    /// How many registrations the latest version carries.
    pub batch_size: usize,
    /// Signed, submitted or included.
    pub state: State,
    /// When its registrations left the queue.
    pub prepared_at: Timestamp,
    /// When its bytes were on disk.
    pub signed_at: Timestamp,
    /// When a node took it.
    pub sent_at: Option<Timestamp>,
    /// The block that was seen to include it.
    pub block: Option<Block>,
    /// When its confirmation clock ran out.
    pub timed_out_at: Option<Timestamp>,
    /// What was seen of it.
    pub observations: StoredObservations,
    /// Every signed version, the latest last.
    pub attempts: Vec<Attempt>,
    /// What it carries.
    pub members: Vec<BatchMember>,
}

/// A block that holds confirmed registrations and is not final yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnfinalizedBlock {
    /// The transaction in it.
    pub id: TransactionId,
    /// Who signed it, if it is one of ours, which can be sent again after a reorg.
    pub signer: Option<Address>,
    /// How final it is known to be.
    pub finality: Finality,
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
}

impl UnfinalizedBlock {
    /// Under this address the blocks of other people's transactions are leased: that of no signer.
    pub const FOREIGN_LEASE: Address = Address::ZERO;

    /// Whose lease allows to watch it.
    pub fn lease_address(&self) -> Address {
        self.signer.unwrap_or(Self::FOREIGN_LEASE)
    }
}

/// How much of an open transaction is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Detail {
    /// All of it, to act on.
    Full,
    /// Neither bytes nor more than the first of what it carries, to look at.
    Summary,
}

/// What is signed and not settled, as the index of it says it.
const OPEN_CONDITION: &str = "state IN ('signed', 'submitted', 'included')";
/// What is confirmed and not final, as the index of it says it.
const UNFINALIZED_CONDITION: &str = "state = 'confirmed' AND finality IN ('unsafe', 'safe')";
pub(super) const HIGHEST_NONCE_SQL: &str = "SELECT MAX(nonce) FROM transactions WHERE signer = $1";
pub(super) const MEMBER_IDS_SQL: &str = "SELECT id FROM registrations WHERE transaction_id = $1";

/// Which signers have open transactions, and how many.
pub(super) fn open_count_by_signer_sql() -> String {
    format!("SELECT signer, COUNT(*) FROM transactions WHERE {OPEN_CONDITION} GROUP BY signer")
}

/// The open transactions for which this holds; [`open_row`] reads a row.
pub(super) fn open_transactions_sql(which: &str) -> String {
    format!(
        "SELECT id, signer, nonce, hash, gas_limit, batch_size, state, sent_at, block_number, block_hash, block_time, timed_out_at, prepared_at, \
         signed_at, {OBSERVATION_COLUMNS} FROM transactions WHERE {OPEN_CONDITION} AND {which} ORDER BY nonce"
    )
}

/// The attempts of those, with their bytes or without.
pub(super) fn open_attempts_sql(which: &str, reading: Detail) -> String {
    let bytes = match reading {
        Detail::Full => ", raw",
        Detail::Summary => "",
    };
    format!(
        "SELECT transaction_id, hash, max_fee_per_gas, max_priority_fee_per_gas{bytes} FROM attempts \
         WHERE transaction_id IN (SELECT id FROM transactions WHERE {OPEN_CONDITION} AND {which}) ORDER BY number"
    )
}

/// The first of what each of those carries.
pub(super) fn open_first_members_sql(which: &str) -> String {
    format!(
        "{} WHERE id IN (SELECT (SELECT r.id FROM registrations r WHERE r.transaction_id = transactions.id ORDER BY r.id LIMIT 1) \
         FROM transactions WHERE {OPEN_CONDITION} AND {which})",
        rows::SELECT_QUEUED
    )
}

/// What those carry.
pub(super) fn open_members_sql(which: &str) -> String {
    format!(
        "{} WHERE transaction_id IN (SELECT id FROM transactions WHERE {OPEN_CONDITION} AND {which}) ORDER BY id",
        rows::SELECT_QUEUED
    )
}

/// The blocks that are not final, of those that are at most so many ($1) below the newest of them.
pub(super) fn unfinalized_within_depth_sql() -> String {
    format!(
        "{} AND block_number > (SELECT MAX(block_number) FROM transactions WHERE {UNFINALIZED_CONDITION}) - $1",
        unfinalized_sql()
    )
}

/// The lowest blocks that are not final, up to this one ($1), so many ($2).
pub(super) fn unfinalized_up_to_sql() -> String {
    format!("{} AND block_number <= $1 ORDER BY block_number LIMIT $2", unfinalized_sql())
}

fn unfinalized_sql() -> String {
    format!(
        "SELECT id, nonce, signer, finality, block_number, block_hash FROM transactions WHERE {UNFINALIZED_CONDITION}"
    )
}

impl Store {
    /// Every signer with transactions that are not settled, and how many.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn signers_with_open_transactions(&self) -> Result<Vec<(Address, u64)>, StoreError> {
        let found = sqlx::query(AssertSqlSafe(open_count_by_signer_sql())).fetch_all(&self.writer).await?;
        let read = |row: &AnyRow| {
            let mut c = RowReader::new(row);
            Ok((c.bytes()?, c.unsigned()?.unwrap_or_default()))
        };
        found.iter().map(read).collect()
    }

    /// Every transaction of this signer that is not settled, in the order of nonces.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn open_transactions(&self, signer: Address) -> Result<Vec<OpenTransaction>, StoreError> {
        self.select_open("signer = $1", signer.to_vec(), Detail::Full).await
    }

    /// As [`Self::open_transactions`], for a diagnosis by a replica that does not act for the signer: without any bytes, and with the
    /// first alone of what each carries, but for the one with this nonce. Nobody who writes has to wait for it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn open_transaction_summaries(
        &self,
        signer: Address,
        whole: Option<u64>,
    ) -> Result<Vec<OpenTransaction>, StoreError> {
        let mut open = self.select_open("signer = $1", signer.to_vec(), Detail::Summary).await?;
        if let Some(one) = open.iter_mut().find(|open| Some(open.nonce) == whole) {
            let sql = AssertSqlSafe(open_members_sql("id = $1"));
            let rows = sqlx::query(sql).bind(one.id.as_bytes().to_vec()).fetch_all(&self.reader).await?;
            one.members =
                rows.iter().map(|row| rows::read_queued(&mut RowReader::new(row))).collect::<Result<_, _>>()?;
        }
        Ok(open)
    }

    /// The transaction as it is open now, if it is.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn open_transaction(&self, id: TransactionId) -> Result<Option<OpenTransaction>, StoreError> {
        Ok(self.select_open("id = $1", id.as_bytes().to_vec(), Detail::Full).await?.pop())
    }

    /// Reads open transactions and what belongs to them, with as many statements for one as for all.
    async fn select_open(
        &self,
        which: &str,
        key: Vec<u8>,
        reading: Detail,
    ) -> Result<Vec<OpenTransaction>, StoreError> {
        let (pool, members_of) = match reading {
            Detail::Full => (&self.writer, open_members_sql(which)),
            Detail::Summary => (&self.reader, open_first_members_sql(which)),
        };
        let rows = async |sql: String| sqlx::query(AssertSqlSafe(sql)).bind(key.clone()).fetch_all(pool).await;
        let open = rows(open_transactions_sql(which)).await?;
        let mut attempts: HashMap<TransactionId, Vec<Attempt>> = HashMap::new();
        for row in &rows(open_attempts_sql(which, reading)).await? {
            let mut c = RowReader::new(row);
            attempts.entry(TransactionId::from_bytes(c.bytes()?)).or_default().push(read_attempt(&mut c, reading)?);
        }
        let mut members: HashMap<TransactionId, Vec<BatchMember>> = HashMap::new();
        for row in &rows(members_of).await? {
            let mut c = RowReader::new(row);
            let member = rows::read_queued(&mut c)?;
            members.entry(TransactionId::from_bytes(c.bytes()?)).or_default().push(member);
        }
        let whole = |row| {
            let mut open = read_open_transaction(row)?;
            open.attempts = attempts.remove(&open.id).unwrap_or_default();
            open.members = members.remove(&open.id).unwrap_or_default();
            Ok(open)
        };
        open.iter().map(whole).collect()
    }

    /// One past the highest nonce the signer was ever given here.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn next_nonce(&self, signer: Address) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query(HIGHEST_NONCE_SQL).bind(signer.to_vec()).fetch_one(&self.writer).await?;
        Ok(RowReader::new(&row).unsigned()?.map(|highest| highest + 1))
    }

    /// Every block that holds confirmed registrations, is not final yet, is watched under this lease, and is less than `depth` below
    /// the newest of them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn unfinalized_blocks(&self, lease: Address, depth: u64) -> Result<Vec<UnfinalizedBlock>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(unfinalized_within_depth_sql())).bind(depth.cast_signed());
        let mut blocks = read_unfinalized(&query.fetch_all(&self.reader).await?)?;
        blocks.retain(|block| block.lease_address() == lease);
        Ok(blocks)
    }

    /// Every signer with confirmed transactions of ours that are not known to be final.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn signers_with_unfinalized(&self) -> Result<Vec<Address>, StoreError> {
        let query = sqlx::query(
            "SELECT DISTINCT signer FROM transactions WHERE state = 'confirmed' AND finality IN ('unsafe', 'safe') \
             AND nonce IS NOT NULL",
        );
        query.fetch_all(&self.reader).await?.iter().map(|row| RowReader::new(row).bytes()).collect()
    }

    /// The lowest blocks up to `number` that are not known to be final, so many at most.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn unfinalized_up_to(&self, number: u64, most: u32) -> Result<Vec<UnfinalizedBlock>, StoreError> {
        let query =
            sqlx::query(AssertSqlSafe(unfinalized_up_to_sql())).bind(number.cast_signed()).bind(i64::from(most));
        read_unfinalized(&query.fetch_all(&self.reader).await?)
    }

    /// The ids of all that a transaction carries.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn member_ids(&self, id: TransactionId) -> Result<Vec<RegistrationId>, StoreError> {
        let found = sqlx::query(MEMBER_IDS_SQL).bind(id.as_bytes().to_vec()).fetch_all(&self.reader).await?;
        found.iter().map(|row| RowReader::new(row).registration_id()).collect()
    }
}

/// Reads a row of [`open`]; what belongs to it is still to come.
fn read_open_transaction(row: &AnyRow) -> Result<OpenTransaction, StoreError> {
    let mut c = RowReader::new(row);
    let id = TransactionId::from_bytes(c.bytes()?);
    let (signer, nonce, hash) = (c.bytes()?, c.unsigned()?, c.bytes()?);
    let (gas_limit, batch_size) = (c.unsigned()?.unwrap_or_default(), c.unsigned()?.unwrap_or_default());
    let (state, sent) = (c.code()?, c.time()?);
    let (block, timed_out) = (c.block()?, c.time()?);
    let (prepared, signed) = (c.time()?, c.time()?);
    let signed = signed.ok_or_else(|| StoreError::corrupt("an open transaction that was not signed"))?;
    Ok(OpenTransaction {
        id,
        signer,
        nonce: nonce.ok_or_else(|| StoreError::corrupt("an open transaction without a nonce"))?,
        hash,
        gas_limit,
        batch_size: usize::try_from(batch_size).unwrap_or(usize::MAX),
        state,
        prepared_at: prepared.unwrap_or(signed),
        signed_at: signed,
        sent_at: sent,
        block,
        timed_out_at: timed_out,
        observations: read_observations(&mut c)?,
        attempts: Vec::new(),
        members: Vec::new(),
    })
}

fn read_attempt(c: &mut RowReader<'_>, reading: Detail) -> Result<Attempt, StoreError> {
    let hash = c.bytes()?;
    let fees = Fees {
        max_fee_per_gas: c.unsigned()?.unwrap_or_default().into(),
        max_priority_fee_per_gas: c.unsigned()?.unwrap_or_default().into(),
    };
    let raw = match reading {
        Detail::Full => c.get::<Vec<u8>>()?.into(),
        Detail::Summary => Bytes::new(),
    };
    Ok(Attempt { hash, raw, fees })
}

fn read_unfinalized(rows: &[AnyRow]) -> Result<Vec<UnfinalizedBlock>, StoreError> {
    let read = |row| {
        let mut c = RowReader::new(row);
        let (id, nonce, signer) = (TransactionId::from_bytes(c.bytes()?), c.unsigned()?, c.bytes()?);
        let (finality, number) = (c.code()?, c.unsigned()?.unwrap_or_default());
        Ok(UnfinalizedBlock { id, signer: nonce.map(|_| signer), finality, number, hash: c.bytes()? })
    };
    rows.iter().map(read).collect()
}

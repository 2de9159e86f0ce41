//! What a start has to know: every transaction that is not settled, its bytes and its members.

use super::{
    QueuedRegistration, Store, StoreError,
    rows::{self, Columns},
};
use crate::registration::{Block, Finality, RegistrationId, State, Timestamp, TransactionId, policy::fees::Fees};
use alloy::primitives::{Address, B256, Bytes};
use sqlx::{AssertSqlSafe, any::AnyRow};

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
pub type Member = QueuedRegistration;

/// A transaction of ours that is not settled.
#[derive(Clone, Debug)]
pub struct OpenTransaction {
    /// Its id in the store.
    pub id: TransactionId,
    /// Who signed it.
    pub signer: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// Its gas limit.
    pub gas_limit: u64,
    /// Signed, submitted or included.
    pub state: State,
    /// When its registrations left the queue.
    pub prepared: Timestamp,
    /// When its bytes were on disk.
    pub signed: Timestamp,
    /// When a node took it.
    pub sent: Option<Timestamp>,
    /// The block that was seen to include it.
    pub block: Option<Block>,
    /// When its confirmation clock ran out.
    pub timed_out: Option<Timestamp>,
    /// Every signed version, the latest last.
    pub attempts: Vec<Attempt>,
    /// What it carries.
    pub members: Vec<Member>,
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
    pub const STRANGERS: Address = Address::ZERO;

    /// Whose lease allows to watch it.
    pub fn lease(&self) -> Address {
        self.signer.unwrap_or(Self::STRANGERS)
    }
}

/// The columns of an open transaction; [`Store::open_row`] reads them.
const OPEN: &str = "SELECT id, signer, nonce, gas_limit, state, sent_at, block_number, block_hash, block_time, timed_out_at, \
                    prepared_at, signed_at \
                    FROM transactions WHERE state IN ('signed', 'submitted', 'included')";

impl Store {
    /// Every signer with transactions that are not settled, and how many.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn signers_at_work(&self) -> Result<Vec<(Address, u64)>, StoreError> {
        let found = sqlx::query(
            "SELECT signer, COUNT(*) FROM transactions WHERE state IN ('signed', 'submitted', 'included') GROUP BY signer",
        )
        .fetch_all(&self.writer)
        .await?;
        let read = |row: &AnyRow| {
            let mut c = Columns::of(row);
            Ok((c.bytes()?, c.unsigned()?.unwrap_or_default()))
        };
        found.iter().map(read).collect()
    }

    /// Every transaction of this signer that is not settled, in the order of nonces.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn open_transactions(&self, signer: Address) -> Result<Vec<OpenTransaction>, StoreError> {
        let found = sqlx::query(AssertSqlSafe(format!("{OPEN} AND signer = $1 ORDER BY nonce")))
            .bind(signer.to_vec())
            .fetch_all(&self.writer)
            .await?;
        let mut open = Vec::with_capacity(found.len());
        for row in &found {
            open.push(self.open_row(row).await?);
        }
        Ok(open)
    }

    /// The transaction as it is open now, if it is.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn open_transaction(&self, id: TransactionId) -> Result<Option<OpenTransaction>, StoreError> {
        let found = sqlx::query(AssertSqlSafe(format!("{OPEN} AND id = $1")))
            .bind(id.as_bytes().to_vec())
            .fetch_optional(&self.writer)
            .await?;
        match found {
            Some(row) => self.open_row(&row).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads a row of [`OPEN`], and what belongs to it.
    async fn open_row(&self, row: &AnyRow) -> Result<OpenTransaction, StoreError> {
        let mut c = Columns::of(row);
        let id = TransactionId::from_bytes(c.bytes()?);
        let (signer, nonce, gas_limit) = (c.bytes()?, c.unsigned()?, c.unsigned()?.unwrap_or_default());
        let (state, sent) = (c.code()?, c.time()?);
        let (block, timed_out) = (c.block()?, c.time()?);
        let (prepared, signed) = (c.time()?, c.time()?);
        let signed = signed.ok_or_else(|| StoreError::corrupt("an open transaction that was not signed"))?;
        Ok(OpenTransaction {
            id,
            signer,
            nonce: nonce.ok_or_else(|| StoreError::corrupt("an open transaction without a nonce"))?,
            gas_limit,
            state,
            prepared: prepared.unwrap_or(signed),
            signed,
            sent,
            block,
            timed_out,
            attempts: self.attempts(id).await?,
            members: self.members(id).await?,
        })
    }

    /// One past the highest nonce the signer was ever given here.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn next_nonce(&self, signer: Address) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query("SELECT MAX(nonce) FROM transactions WHERE signer = $1")
            .bind(signer.to_vec())
            .fetch_one(&self.writer)
            .await?;
        Ok(Columns::of(&row).unsigned()?.map(|highest| highest + 1))
    }

    /// Every block that holds confirmed registrations, is not final yet, and is watched under this lease.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn unfinalized_blocks(&self, lease: Address) -> Result<Vec<UnfinalizedBlock>, StoreError> {
        let found = sqlx::query(
            "SELECT id, nonce, signer, finality, block_number, block_hash FROM transactions \
             WHERE state = 'confirmed' AND finality IN ('unsafe', 'safe')",
        )
        .fetch_all(&self.reader)
        .await?;
        let read = |row: &AnyRow| {
            let mut c = Columns::of(row);
            let (id, nonce, signer) = (TransactionId::from_bytes(c.bytes()?), c.unsigned()?, c.bytes()?);
            let (finality, number) = (c.code()?, c.unsigned()?.unwrap_or_default());
            Ok(UnfinalizedBlock { id, signer: nonce.map(|_| signer), finality, number, hash: c.bytes()? })
        };
        let mut blocks: Vec<UnfinalizedBlock> = found.iter().map(read).collect::<Result<_, StoreError>>()?;
        blocks.retain(|block| block.lease() == lease);
        Ok(blocks)
    }

    /// The ids of all that a transaction carries.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn members_of(&self, id: TransactionId) -> Result<Vec<RegistrationId>, StoreError> {
        let found = sqlx::query("SELECT id FROM registrations WHERE transaction_id = $1")
            .bind(id.as_bytes().to_vec())
            .fetch_all(&self.reader)
            .await?;
        found.iter().map(|row| Columns::of(row).registration_id()).collect()
    }

    async fn attempts(&self, id: TransactionId) -> Result<Vec<Attempt>, StoreError> {
        let found = sqlx::query(
            "SELECT hash, raw, max_fee_per_gas, max_priority_fee_per_gas FROM attempts WHERE transaction_id = $1 ORDER BY number",
        )
        .bind(id.as_bytes().to_vec())
        .fetch_all(&self.writer)
        .await?;
        found
            .iter()
            .map(|row| {
                let mut c = Columns::of(row);
                Ok(Attempt {
                    hash: c.bytes()?,
                    raw: c.get::<Vec<u8>>()?.into(),
                    fees: Fees {
                        max_fee_per_gas: c.unsigned()?.unwrap_or_default().into(),
                        max_priority_fee_per_gas: c.unsigned()?.unwrap_or_default().into(),
                    },
                })
            })
            .collect()
    }

    async fn members(&self, id: TransactionId) -> Result<Vec<Member>, StoreError> {
        let found = sqlx::query(AssertSqlSafe(format!("{} WHERE transaction_id = $1 ORDER BY id", rows::QUEUED)))
            .bind(id.as_bytes().to_vec())
            .fetch_all(&self.writer)
            .await?;
        found.iter().map(rows::queued).collect()
    }
}

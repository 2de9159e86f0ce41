//! Which signer takes which registration from a queue that replicas share.
//!
//! A claim keeps other signers from preparing the same registrations at the same time. It belongs to the signer and not
//! to the process: the next process that acts for the signer, after a crash or a lost lease, continues with it at once.
//! It ends when the registration is signed or blocked, or when it expires. If two signers claim the same registration
//! nevertheless, only one of them can sign it. So none is written as long as one process sends for all signers: a claim
//! costs as much as signing does.

#[cfg(test)]
use super::engine::Engine;
use super::{
    QueuedRegistration, Store, StoreError, UnfinalizedBlock,
    bind::{bind_ids, clamp},
    lease::DATABASE_NOW_MICROS,
    query::{Query, Row, query},
    rows::{self, RowReader},
    sql::{UNINDEXED_STATE, chunks, placeholders},
};
use crate::{
    registration::{RegistrationId, Timestamp},
    telemetry::spans,
};
use alloy::primitives::Address;
use std::time::Duration;

/// For a sender to prepare what it has claimed.
const CLAIM_TTL: Duration = Duration::from_secs(10);

/// Claims the queued registrations, by the column or expression `state`, that are due and that `selection`, from `$5` on,
/// selects further; [`bind_claim`] binds what is before. Rows that another sender is claiming at this moment are
/// skipped, not waited for.
fn claim_sql(state: &str, selection: &str) -> String {
    format!(
        "WITH registrations AS (UPDATE registrations SET claimed_by = $1, claimed_until = {DATABASE_NOW_MICROS} + $2 \
         WHERE id IN (SELECT id FROM registrations WHERE {state} = 'queued' AND retry_at <= $3 AND (claimed_until < \
         {DATABASE_NOW_MICROS} OR claimed_by = $4) {selection} FOR UPDATE SKIP LOCKED) RETURNING *) {}",
        rows::SELECT_QUEUED
    )
}

fn bind_claim(query: Query, signer: Address, now: Timestamp) -> Query {
    query.bind(signer.to_vec()).bind(clamp(CLAIM_TTL.as_micros())).bind(now).bind(signer.to_vec())
}

impl Store {
    /// Whether another process holds the lease of a signer, so that claims have to be written.
    pub async fn has_other_senders(&self) -> Result<bool, StoreError> {
        if !self.is_shared() {
            return Ok(false);
        }
        let query = query(format!(
            "SELECT 1 FROM leases WHERE holder <> $1 AND signer <> $2 AND expires_at >= {} LIMIT 1",
            self.lease_clock()
        ));
        let query = query.bind(self.leases.holder_id()).bind(UnfinalizedBlock::FOREIGN_LEASE.to_vec());
        Ok(spans::db("other_senders", query.fetch_optional(&self.writer)).await?.is_some())
    }

    /// The time by which leases expire.
    fn lease_clock(&self) -> String {
        #[cfg(test)]
        if let Engine::SharedFile(_) = &*self.engine {
            return crate::clock::now().micros().to_string();
        }
        DATABASE_NOW_MICROS.to_owned()
    }

    /// Claims for this signer at most `limit` queued registrations that are due and that no other signer has claimed,
    /// oldest first.
    pub async fn claim_queued(
        &self,
        signer: Address,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedRegistration>, StoreError> {
        #[cfg(test)]
        if let Engine::SharedFile(_) = &*self.engine {
            return self.claim_in_shared_file(signer, now, limit).await;
        }
        let sql = format!("{} ORDER BY id", claim_sql("state", "ORDER BY id LIMIT $5"));
        let query = bind_claim(query(sql), signer, now).bind(clamp(limit));
        read_queued_rows(&spans::db("claim", query.fetch_all(&self.writer)).await?)
    }

    /// Claims those of `ids` that are queued, due, and not claimed by another signer; in no order.
    pub async fn claim_queued_among(
        &self,
        signer: Address,
        now: Timestamp,
        ids: &[RegistrationId],
    ) -> Result<Vec<QueuedRegistration>, StoreError> {
        let mut claimed = Vec::new();
        for chunk in chunks(ids) {
            let sql = claim_sql(UNINDEXED_STATE, &format!("AND id IN ({})", placeholders(5, chunk.len())));
            let query = bind_ids(bind_claim(query(sql), signer, now), &chunk);
            claimed.extend(read_queued_rows(&spans::db("claim_among", query.fetch_all(&self.writer)).await?)?);
        }
        Ok(claimed)
    }

    /// Leaves claimed registrations to other signers.
    pub async fn release_claims(&self, ids: &[RegistrationId]) -> Result<(), StoreError> {
        for chunk in chunks(ids) {
            let sql = format!(
                "UPDATE registrations SET claimed_until = 0 WHERE {UNINDEXED_STATE} = 'queued' AND id IN ({})",
                placeholders(1, chunk.len())
            );
            let query = bind_ids(query(sql), &chunk);
            spans::db("release_claims", query.execute(&self.writer)).await?;
        }
        Ok(())
    }

    /// In two statements, for SQLite has none that returns a selection of the rows that it updates.
    #[cfg(test)]
    async fn claim_in_shared_file(
        &self,
        signer: Address,
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedRegistration>, StoreError> {
        self.transact("claim", super::transact::Fence::None, async |tx| {
            let now = crate::clock::now().micros();
            let until = now + clamp(CLAIM_TTL.as_micros());
            query(format!(
                "UPDATE registrations SET claimed_by = $1, claimed_until = {until} WHERE id IN (SELECT id FROM \
                 registrations WHERE state = 'queued' AND retry_at <= $2 AND (claimed_until < {now} OR claimed_by = \
                 $3) ORDER BY id LIMIT $4)"
            ))
            .bind(signer.to_vec())
            .bind(at)
            .bind(signer.to_vec())
            .bind(clamp(limit))
            .execute(&mut **tx)
            .await?;
            let claimed = format!(
                "{} WHERE state = 'queued' AND claimed_by = $1 AND claimed_until = {until} ORDER BY id",
                rows::SELECT_QUEUED
            );
            read_queued_rows(&query(claimed).bind(signer.to_vec()).fetch_all(&mut **tx).await?)
        })
        .await
    }
}

fn read_queued_rows(found: &[Row]) -> Result<Vec<QueuedRegistration>, StoreError> {
    found.iter().map(|row| rows::read_queued(&mut RowReader::new(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{BlockedReason, NewRegistration, Pair},
        store::{AcceptHandle, Settings, testing::server::Database},
    };
    use futures_util::future::{join_all, try_join_all};
    use tokio_util::sync::CancellationToken;

    const FIRST_SIGNER: Address = Address::repeat_byte(1);
    const SECOND_SIGNER: Address = Address::repeat_byte(2);

    /// Two replicas on first database with `queued` registrations.
    async fn replicas(queued: u8) -> (Database, Store, Store) {
        let database = Database::new().await;
        let open = async || Store::open(&Settings::Postgres(database.url()), 1_000).await.unwrap();
        let (first, second) = (open().await, open().await);
        let (handle, writer) = AcceptHandle::new(first.clone());
        tokio::spawn(writer.run(CancellationToken::new(), || {}));
        let request = |document| NewRegistration {
            pair: Pair {
                document_hash: crate::registration::DocumentHash::new([document; 32]).unwrap(),
                case_id: "a".parse().unwrap(),
            },
            submitted_as: String::new(),
            user_id: None,
            caller: None,
            trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()).into(),
        };
        try_join_all((1..=queued).map(|document| handle.accept(request(document)))).await.unwrap();
        (database, first, second)
    }

    async fn claimed(store: &Store, signer: Address, limit: usize) -> Vec<RegistrationId> {
        let now = Timestamp::from(std::time::SystemTime::now());
        store.claim_queued(signer, now, limit).await.unwrap().iter().map(|claimed| claimed.id).collect()
    }

    #[tokio::test]
    async fn claims_are_written_only_while_another_process_holds_the_lease_of_a_signer() {
        let (database, first, second) = replicas(0).await;
        let others = async || (first.has_other_senders().await.unwrap(), second.has_other_senders().await.unwrap());
        first.acquire_lease(FIRST_SIGNER).await.unwrap().unwrap();
        first.acquire_lease(SECOND_SIGNER).await.unwrap().unwrap();
        second.acquire_lease(UnfinalizedBlock::FOREIGN_LEASE).await.unwrap().unwrap();
        assert_eq!(others().await, (false, true));
        second.acquire_lease(Address::repeat_byte(3)).await.unwrap().unwrap();
        assert_eq!(others().await, (true, true));
        database.run("UPDATE registrar.leases SET expires_at = 0").await;
        assert_eq!(others().await, (false, false));
    }

    #[tokio::test]
    async fn no_two_signers_claim_the_same_registration() {
        let (_database, first, second) = replicas(200).await;
        let claimants = [
            (&first, FIRST_SIGNER),
            (&second, SECOND_SIGNER),
            (&first, Address::repeat_byte(3)),
            (&second, Address::repeat_byte(4)),
        ];
        let claims = join_all(claimants.iter().map(|(store, signer)| claimed(store, *signer, 50))).await;
        let mut all = claims.concat();
        assert!(claims.iter().all(|claim| claim.is_sorted()), "not oldest first");
        all.sort_unstable();
        all.dedup();
        // A claim skips rows that another first is claiming at the same moment.
        assert_eq!(all.len(), claims.iter().map(Vec::len).sum::<usize>());
        assert!(all.len() >= 50);
    }

    #[tokio::test]
    async fn registrations_are_claimed_by_id_unless_another_signer_has_them() {
        let (_database, first, second) = replicas(4).await;
        let all = claimed(&first, FIRST_SIGNER, 10).await;
        first.release_claims(&all[1..]).await.unwrap();
        let now = Timestamp::from(std::time::SystemTime::now());
        let claim = async |ids: &[RegistrationId]| {
            let claimed = second.claim_queued_among(SECOND_SIGNER, now, ids).await.unwrap();
            claimed.iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(claim(&[all[0], all[3]]).await, [all[3]]);
        assert_eq!(claimed(&first, FIRST_SIGNER, 10).await, all[..3], "the last one is claimed");
    }

    #[tokio::test]
    async fn a_claim_passes_to_the_next_holder_of_its_signer_and_to_others_when_it_expires() {
        let (database, first, second) = replicas(3).await;
        let all = claimed(&first, FIRST_SIGNER, 10).await;
        assert_eq!(all.len(), 3);
        assert_eq!(claimed(&second, SECOND_SIGNER, 10).await, []);
        assert_eq!(claimed(&second, FIRST_SIGNER, 10).await, all);

        let now = Timestamp::from(std::time::SystemTime::now());
        first.set_blocked_queued(&all[..1], BlockedReason::FeeCap, now, now).await.unwrap();
        assert_eq!(claimed(&second, SECOND_SIGNER, 10).await, all[..1]);

        database.run("UPDATE registrar.registrations SET claimed_until = claimed_until - 10000000").await;
        assert_eq!(claimed(&second, SECOND_SIGNER, 10).await, all);
    }
}

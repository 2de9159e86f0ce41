//! Which lane takes what from a queue that replicas share.
//!
//! A claim keeps the other lanes away for a moment, so that two do not prepare the same work. It is the signer's and not the
//! process's: whoever acts for the signer next, after a crash or a lost lease, goes on with it at once. It ends when the work is
//! signed or blocked, or by itself. What two lanes have claimed in spite of it, only one of them signs.

#[cfg(test)]
use super::engine::Engine;
use super::{
    QueuedRegistration, Store, StoreError,
    lease::DATABASE_NOW_MICROS,
    rows::{self, RowReader},
    sql::{chunks, placeholders},
};
use crate::registration::{RegistrationId, Timestamp};
use alloy::primitives::Address;
use sqlx::AssertSqlSafe;
use std::time::Duration;

/// How long a lane may take to prepare what it has claimed, before another one may try.
const CLAIM_TTL: Duration = Duration::from_secs(10);

impl Store {
    /// Claims for this signer at most `limit` queued registrations whose time has come and that no other one has claimed, oldest
    /// first.
    ///
    /// # Errors
    /// When the database cannot be written.
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
        // Rows that another lane is claiming at this moment are passed over instead of waited for.
        let sql = format!(
            "WITH registrations AS (UPDATE registrations SET claimed_by = $1, claimed_until = {DATABASE_NOW_MICROS} + $2 WHERE id IN (\
             SELECT id FROM registrations WHERE state = 'queued' AND retry_at <= $3 \
             AND (claimed_until < {DATABASE_NOW_MICROS} OR claimed_by = $4) ORDER BY id LIMIT $5 FOR UPDATE SKIP LOCKED) RETURNING *) \
             {} ORDER BY id",
            rows::SELECT_QUEUED
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(signer.to_vec())
            .bind(claim_ttl_micros())
            .bind(now.micros())
            .bind(signer.to_vec())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.writer)
            .await?;
        found.iter().map(|row| rows::read_queued(&mut RowReader::new(row))).collect()
    }
}

pub(super) fn claim_ttl_micros() -> i64 {
    i64::try_from(CLAIM_TTL.as_micros()).unwrap_or(i64::MAX)
}

impl Store {
    /// Leaves what was claimed to other lanes.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn release_claims(&self, ids: &[RegistrationId]) -> Result<(), StoreError> {
        for chunk in chunks(ids) {
            let sql = format!(
                "UPDATE registrations SET claimed_until = 0 WHERE state = 'queued' AND id IN ({})",
                placeholders(1, chunk.len())
            );
            let query = sqlx::query(AssertSqlSafe(sql));
            let query = chunk.iter().fold(query, |query, id| query.bind(id.as_bytes().to_vec()));
            query.execute(&self.writer).await?;
        }
        Ok(())
    }
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

    /// Two replicas on one database with so many queued registrations.
    async fn replicas(queued: u8) -> (Database, Store, Store) {
        let database = Database::new().await;
        let open = async || Store::open(&Settings::Postgres(database.url()), 1_000).await.unwrap();
        let (one, other) = (open().await, open().await);
        let (acceptor, intake) = AcceptHandle::new(one.clone());
        tokio::spawn(intake.run(CancellationToken::new(), || {}));
        let asked = |document| NewRegistration {
            pair: Pair {
                document_hash: crate::registration::DocumentHash::new([document; 32]).unwrap(),
                case_id: "a".parse().unwrap(),
            },
            submitted_as: String::new(),
            user_id: None,
            trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()),
        };
        try_join_all((1..=queued).map(|document| acceptor.accept(asked(document)))).await.unwrap();
        (database, one, other)
    }

    async fn claimed(store: &Store, signer: Address, limit: usize) -> Vec<RegistrationId> {
        let now = Timestamp::from(std::time::SystemTime::now());
        store.claim_queued(signer, now, limit).await.unwrap().iter().map(|claimed| claimed.id).collect()
    }

    #[tokio::test]
    async fn no_two_lanes_claim_the_same() {
        let (_database, one, other) = replicas(200).await;
        let lanes = [
            (&one, FIRST_SIGNER),
            (&other, SECOND_SIGNER),
            (&one, Address::repeat_byte(3)),
            (&other, Address::repeat_byte(4)),
        ];
        let claims = join_all(lanes.iter().map(|(store, signer)| claimed(store, *signer, 50))).await;
        let mut all = claims.concat();
        assert!(claims.iter().all(|claim| claim.is_sorted()), "not oldest first");
        all.sort_unstable();
        all.dedup();
        // One that came while the others' claims were on their way passes them over.
        assert_eq!(all.len(), claims.iter().map(Vec::len).sum::<usize>());
        assert!(all.len() >= 50);
    }

    #[tokio::test]
    async fn whoever_acts_for_the_signer_next_goes_on_with_its_claim_and_others_when_it_is_over() {
        let (database, one, other) = replicas(3).await;
        let all = claimed(&one, FIRST_SIGNER, 10).await;
        assert_eq!(all.len(), 3);
        assert_eq!(claimed(&other, SECOND_SIGNER, 10).await, []);
        assert_eq!(claimed(&other, FIRST_SIGNER, 10).await, all);

        let now = Timestamp::from(std::time::SystemTime::now());
        one.set_blocked_queued(&all[..1], BlockedReason::FeeCap, now, now).await.unwrap();
        assert_eq!(claimed(&other, SECOND_SIGNER, 10).await, all[..1]);

        database.run("UPDATE registrar.registrations SET claimed_until = claimed_until - 10000000").await;
        assert_eq!(claimed(&other, SECOND_SIGNER, 10).await, all);
    }
}

//! What the store has to do on every engine, tested on real databases. Compiled as `on_sqlite` and as `on_postgres`.

mod accept;
mod accept_many;
mod availability;
mod caller_limits;
mod change_feed;
mod delays;
mod fencing;
mod finality;
mod import;
mod list;
mod observations;
mod reopen;
mod replacement;
mod transactions;

use super::{query::query, testing::TestDatabase, *};
use crate::registration::{
    Block, BlockedReason, Cost, Diagnosis, Failure, FailureReason, Finality, NewRegistration, Pair, Registration,
    RegistrationId, State, Timestamp, TransactionId, diagnosis::Cause, policy::fees::Fees,
};
use alloy::primitives::{Address, B256};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SIGNER: Address = Address::repeat_byte(9);

struct StoreFixture {
    store: Store,
    accept_handle: AcceptHandle,
    settings: Settings,
    _database: TestDatabase,
}

impl StoreFixture {
    async fn new(queue_limit: u64) -> Self {
        let database = TestDatabase::for_suite(module_path!()).await;
        let settings = database.settings();
        let store = Store::open(&settings, queue_limit).await.unwrap();
        store.acquire_lease(SIGNER).await.unwrap().unwrap();
        let (accept_handle, writer) = AcceptHandle::new(store.clone());
        tokio::spawn(writer.run(CancellationToken::new(), || {}));
        Self { store, accept_handle, settings, _database: database }
    }

    async fn accept(&self, document: u8, case: &str) -> Accepted {
        self.accept_handle.accept(request(document, case)).await.unwrap()
    }

    async fn get(&self, id: RegistrationId) -> Registration {
        self.store.get(id).await.unwrap().unwrap()
    }

    async fn insert_signed(&self, nonce: u64, members: &[RegistrationId]) -> TransactionId {
        let new = transaction(nonce);
        self.store.insert_signed_transaction(&new, members).await.unwrap();
        new.id
    }
}

fn request(document: u8, case: &str) -> NewRegistration {
    NewRegistration {
        pair: Pair {
            document_hash: crate::registration::DocumentHash::new([document; 32]).unwrap(),
            case_id: case.parse().unwrap(),
        },
        submitted_as: format!("as given {document}"),
        user_id: None,
        caller: None,
        trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()).into(),
    }
}

fn transaction(nonce: u64) -> NewTransaction {
    let attempt = Attempt {
        hash: B256::from_slice(&[&[1; 24][..], &nonce.to_be_bytes()].concat()),
        raw: vec![nonce as u8; 3].into(),
        fees: Fees { max_fee_per_gas: 5, max_priority_fee_per_gas: 1 },
    };
    let id = TransactionId::from(Uuid::now_v7());
    NewTransaction {
        id,
        signer: SIGNER,
        nonce,
        gas_limit: 50_000,
        prepared_at: at(10),
        signed_at: at(11),
        attempt,
        max_cost: 251_000,
        daily_budget: None,
    }
}

fn replacement(number: usize) -> Replacement {
    let attempt = Attempt {
        hash: B256::repeat_byte(100 + number as u8),
        raw: vec![number as u8; 4].into(),
        fees: Fees { max_fee_per_gas: 6, max_priority_fee_per_gas: 2 },
    };
    let (gas_limit, batch_size, signed_at) = (30_000, 1, at(40));
    Replacement { attempt, number, gas_limit, batch_size, signed_at, max_cost: 181_000, daily_budget: None }
}

fn inclusion(number: u64) -> Inclusion {
    Inclusion {
        hash: B256::repeat_byte(1),
        block: Block { number, hash: B256::repeat_byte(number as u8), time: at(20) },
        cost: Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: Some(7) },
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

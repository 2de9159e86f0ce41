//! One registration's story: prepare, send, wait, a span each under one `blockchain.register`.
//!
//! A journey outlives the request that began it, and the process: it hangs in the registration's trace by the stored trace id,
//! never as a child of a span that is still open.

use crate::{
    chain::Network,
    registration::{Block, Cause, Cost, policy::fees::Fees},
    store::{Attempt, Member},
};
use alloy::primitives::Address;
use std::sync::Arc;
use tracing::{Span, field::Empty, info_span};

/// What every journey of this service has in common.
#[derive(Clone, Debug)]
pub struct Route {
    /// The network.
    pub network: Arc<Network>,
    /// The DocumentRegistry.
    pub contract: Address,
}

/// One registration on its way, with the span of the stage it is in.
#[derive(Debug)]
pub struct Journey {
    /// The registration.
    pub member: Member,
    network: Arc<Network>,
    register: Span,
    stage: Span,
}

/// What a transaction is, as the spans tell it.
#[derive(Clone, Copy, Debug)]
pub struct Vehicle<'a> {
    /// The signer.
    pub from: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// How many registrations it carries.
    pub batch_size: usize,
    /// Its gas limit.
    pub gas_limit: u64,
    /// Its latest signed version.
    pub attempt: &'a Attempt,
    /// The latest version's number, from 1 on.
    pub number: usize,
}

impl Journey {
    /// The registration leaves the queue: prepare begins.
    pub fn begin(member: Member, route: &Route) -> Self {
        let register = info_span!(
            parent: None,
            "blockchain.register",
            otel.name = "Register Document on Blockchain",
            trace_id = %member.trace.trace_id,
            registrationId = %member.id,
            documentHash = %member.document_hash,
            caseId = member.case_id.as_str(),
            network = route.network.name,
            contractAddress = %route.contract,
            user.id = member.user_id.as_ref().map(|user| user.as_str()),
            txHash = Empty,
            blockNumber = Empty,
            status = Empty,
        );
        let stage = info_span!(
            parent: &register,
            "blockchain.prepare",
            otel.name = "Prepare Transaction Data",
            nonce = Empty,
            from = Empty,
            batchSize = Empty,
            gasLimit = Empty,
            maxFeePerGas = Empty,
            maxPriorityFeePerGas = Empty,
        );
        Self { member, network: route.network.clone(), register, stage }
    }

    /// Goes on after a restart, in the stage the transaction is in.
    pub fn resume(member: Member, route: &Route, vehicle: &Vehicle<'_>, sent: bool, endpoint: &str) -> Self {
        let mut journey = Self::begin(member, route);
        journey.signed(vehicle, endpoint);
        if sent {
            journey.sent(vehicle);
        }
        journey
    }

    /// Signed and on disk: send begins.
    pub fn signed(&mut self, vehicle: &Vehicle<'_>, endpoint: &str) {
        let Fees { max_fee_per_gas, max_priority_fee_per_gas } = vehicle.attempt.fees;
        self.stage.record("nonce", vehicle.nonce.cast_signed());
        self.stage.record("from", tracing::field::display(vehicle.from));
        self.stage.record("batchSize", vehicle.batch_size as i64);
        self.stage.record("gasLimit", vehicle.gas_limit.cast_signed());
        self.stage.record("maxFeePerGas", max_fee_per_gas as i64);
        self.stage.record("maxPriorityFeePerGas", max_priority_fee_per_gas as i64);
        self.stage = info_span!(
            parent: &self.register,
            "blockchain.send",
            otel.name = format!("Submit Transaction to {}", self.network.title),
            txHash = %vehicle.attempt.hash,
            gasLimit = vehicle.gas_limit.cast_signed(),
            endpoint,
            attempt = vehicle.number as i64,
        );
    }

    /// A node has the transaction: wait begins.
    pub fn sent(&mut self, vehicle: &Vehicle<'_>) {
        self.stage = info_span!(
            parent: &self.register,
            "blockchain.wait",
            otel.name = "Wait for Transaction Confirmation",
            txHash = %vehicle.attempt.hash,
            blockNumber = Empty,
            gasUsed = Empty,
            confirmations = Empty,
            cause = Empty,
        );
    }

    /// In a canonical block.
    pub fn included(&self, block: &Block, cost: &Cost) {
        self.stage.record("blockNumber", block.number.cast_signed());
        self.stage.record("gasUsed", cost.gas_used.cast_signed());
    }

    /// The confirmation clock ran out; the journey goes on.
    pub fn late(&self, cause: Cause) {
        self.stage.record("cause", cause.code());
        self.register.record("status", "deadline_exceeded");
    }

    /// At confirmation depth: the journey ends.
    pub fn confirmed(self, transaction: &impl std::fmt::Display, block: &Block, confirmations: u64) {
        self.stage.record("confirmations", confirmations.cast_signed());
        self.register.record("txHash", tracing::field::display(transaction));
        self.register.record("blockNumber", block.number.cast_signed());
        self.register.record("status", "ok");
    }

    /// Failed for good: the journey ends.
    pub fn failed(self) {
        self.register.record("status", "failed_precondition");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{DocumentHash, Timestamp},
        telemetry::{capture, propagation},
    };
    use alloy::primitives::B256;

    /// What a span should hold: op, parent's op, and some of the data.
    type Expected<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a str)]);

    fn member() -> Member {
        Member {
            id: crate::registration::RegistrationId::from_bytes([7; 16]),
            document_hash: DocumentHash::new([1; 32]).unwrap(),
            case_id: "case-1".parse().unwrap(),
            user_id: None,
            trace: propagation::extract(&http::HeaderMap::new()),
            created: Timestamp::from_seconds(1),
        }
    }

    #[test]
    fn a_journey_is_prepare_send_and_wait_under_one_span_with_the_data_people_search_by() {
        let (trace_id, spans) = capture::spans(|| {
            let route = Route { network: Arc::new(Network::of(84532)), contract: Address::repeat_byte(3) };
            let fees = Fees { max_fee_per_gas: 40, max_priority_fee_per_gas: 2 };
            let attempt = Attempt { hash: B256::repeat_byte(9), raw: vec![1].into(), fees };
            let from = Address::repeat_byte(4);
            let vehicle = Vehicle { from, nonce: 5, batch_size: 6, gas_limit: 70, attempt: &attempt, number: 1 };
            let block = Block { number: 8, hash: B256::repeat_byte(8), time: Timestamp::from_seconds(2) };
            let cost = Cost { gas_used: 60, effective_gas_price: 3, l1_fee: None };
            let mut journey = Journey::begin(member(), &route);
            let trace_id = journey.member.trace.trace_id.to_string();
            journey.signed(&vehicle, "base.example");
            journey.sent(&vehicle);
            journey.included(&block, &cost);
            journey.confirmed(&attempt.hash, &block, 2);
            trace_id
        });
        let hash = B256::repeat_byte(9).to_string();
        let expected: [Expected<'_>; 4] = [
            (
                "blockchain.register",
                None,
                &[
                    ("otel.name", "Register Document on Blockchain"),
                    ("trace_id", &trace_id),
                    ("caseId", "case-1"),
                    ("network", "base-sepolia"),
                    ("txHash", &hash),
                    ("blockNumber", "8"),
                    ("status", "ok"),
                ],
            ),
            (
                "blockchain.prepare",
                Some("blockchain.register"),
                &[
                    ("otel.name", "Prepare Transaction Data"),
                    ("nonce", "5"),
                    ("batchSize", "6"),
                    ("gasLimit", "70"),
                    ("maxFeePerGas", "40"),
                    ("maxPriorityFeePerGas", "2"),
                ],
            ),
            (
                "blockchain.send",
                Some("blockchain.register"),
                &[
                    ("otel.name", "Submit Transaction to Base Sepolia"),
                    ("txHash", &hash),
                    ("endpoint", "base.example"),
                    ("attempt", "1"),
                ],
            ),
            (
                "blockchain.wait",
                Some("blockchain.register"),
                &[
                    ("otel.name", "Wait for Transaction Confirmation"),
                    ("txHash", &hash),
                    ("blockNumber", "8"),
                    ("gasUsed", "60"),
                    ("confirmations", "2"),
                ],
            ),
        ];
        assert_eq!(spans.len(), expected.len());
        for (span, (op, parent, data)) in spans.iter().zip(expected) {
            assert_eq!((span.op, span.parent), (op, parent));
            for (key, value) in data {
                assert_eq!(span.data.get(key).map(String::as_str), Some(*value), "{op} {key}");
            }
        }
    }
}

//! Makes certificates, from proofs that endpoints have of blocks with the finality asked for. Concurrent calls for the
//! same certificate share one, and all of it is within the callers' budget.
//!
//! Some nodes prove the state of their last 128 blocks only, and a block of Base is final after thousands. Where no
//! endpoint proves the state of the final block, the proof is taken at the head, and the certificate handed out once that
//! block is final.

use super::{
    caller_budget::CallerBudget, heads::Heads, now, pending_proofs::PendingProofs, single_flight::SingleFlight,
    verifier::Verifier,
};
use crate::{
    certificate::{self, Certificate, Evidence, MEDIA_TYPE, record_slot},
    chain::{CallError, Chain, OnChainRecord, ProofError, StateProof},
    registration::{Block, Finality, Pair},
    telemetry::OngoingCondition,
};
use alloy::primitives::B256;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};
use tracing::{info, warn};

/// Callers that wait for a certificate. More are turned away.
const MAX_WAITING: usize = 200;
/// For all calls to endpoints, and for a place among them.
const MAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Three heads, a block and its proof, the event of the record and its block.
const CALLS: u32 = 7;

/// A certificate as a file, and the finality of its block.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    pub text: Arc<str>,
    pub media_type: &'static str,
    pub finality: Finality,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("too many callers wait for a certificate")]
    Busy,
    /// The pair is not on chain.
    #[error("not registered yet")]
    NotRegistered,
    /// No block with the record has the finality that was asked for, or the block of the proof does not yet.
    #[error("not {finality} yet")]
    NotFinal { finality: Finality, retry_after: Duration },
    /// No endpoint has a proof that is right.
    #[error("{0}")]
    ProofUnavailable(String),
    /// No endpoint responds, or the contract is missing.
    #[error(transparent)]
    Call(CallError),
}

#[derive(Clone, Debug)]
pub(super) struct Certifier {
    chain: Chain,
    verifier: Verifier,
    budget: CallerBudget,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Semaphore,
    made: SingleFlight<(B256, Finality), Result<IssuedCertificate, CertificateError>>,
    pending: PendingProofs,
    /// Whether the last block that was final was too old for every endpoint. Then the proof of a record that is not final
    /// yet is taken at once.
    final_is_too_old: AtomicBool,
    failing: OngoingCondition,
}

/// What a pair's certificate is about.
struct Subject<'a> {
    pair: &'a Pair,
    slot: B256,
    record: OnChainRecord,
}

impl Certifier {
    pub(super) fn new(chain: Chain, verifier: Verifier, budget: CallerBudget) -> Self {
        let shared = Shared {
            waiting: Semaphore::new(MAX_WAITING),
            made: SingleFlight::default(),
            pending: PendingProofs::default(),
            final_is_too_old: AtomicBool::new(false),
            failing: OngoingCondition::new(),
        };
        Self { chain, verifier, budget, shared: Arc::new(shared) }
    }

    /// Reads the chain, not the store: another service may have registered the pair.
    ///
    /// # Errors
    /// When there is no such certificate now.
    pub(super) async fn certify(&self, pair: &Pair, min: Finality) -> Result<IssuedCertificate, CertificateError> {
        let _place = self.shared.waiting.try_acquire().map_err(|_| CertificateError::Busy)?;
        let key = (record_slot(pair), min);
        let made = self.shared.made.get(key, async {
            let make = timeout(MAKE_TIMEOUT, self.make(pair, min)).await;
            make.unwrap_or_else(|_| Err(unavailable("the endpoints did not answer in time")))
        });
        let made = made.await;
        if made.is_err() {
            // The next block may change it.
            self.shared.made.invalidate(key);
        }
        self.report(&made);
        made
    }

    fn report(&self, made: &Result<IssuedCertificate, CertificateError>) {
        match made {
            Ok(_) => {
                if let Some(lasted) = self.shared.failing.clear() {
                    info!(seconds = lasted.as_secs(), "certificates can be made again");
                }
            }
            Err(error @ (CertificateError::ProofUnavailable(_) | CertificateError::Call(_))) => {
                if self.shared.failing.start() {
                    warn!(error = %error, "a certificate cannot be made; the next failures are not logged");
                }
            }
            Err(CertificateError::Busy | CertificateError::NotRegistered | CertificateError::NotFinal { .. }) => {}
        }
    }

    async fn make(&self, pair: &Pair, min: Finality) -> Result<IssuedCertificate, CertificateError> {
        let record = self.verifier.record(pair).await.map_err(CertificateError::Call)?;
        let subject = Subject { pair, slot: record_slot(pair), record: record.ok_or(CertificateError::NotRegistered)? };
        let _slot = self.budget.take(CALLS).await;
        let heads = tokio::try_join!(self.chain.head(), self.chain.finality_heads());
        let (newest, (safe, finalized)) = heads.map_err(CertificateError::Call)?;
        let heads = Heads { newest, safe, finalized };
        if let Some(issued) = self.issue_pending(&subject, &heads, min).await? {
            return Ok(issued);
        }
        let (mut too_old, mut failure) = (false, None);
        let number = subject.record.block_number;
        for (finality, block) in heads.blocks_with(number, min) {
            match self.prove(&subject, block).await {
                Ok((evidence, seen_by)) => {
                    if finality == Finality::Finalized {
                        self.shared.final_is_too_old.store(false, Ordering::Relaxed);
                    }
                    return self.issue(&subject, evidence, (finality, seen_by)).await;
                }
                Err(ProofError::TooOld(_)) => too_old = true,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let final_is_too_old = &self.shared.final_is_too_old;
        if too_old {
            final_is_too_old.store(true, Ordering::Relaxed);
        }
        let needs_newest = too_old || (failure.is_none() && final_is_too_old.load(Ordering::Relaxed));
        if needs_newest && heads.newest.block.number >= number {
            return Err(self.prove_at_head(&subject, &heads, min).await);
        }
        Err(failure.map_or_else(|| not_final(min, heads.time_until(number, min)), failed))
    }

    /// The certificate of an earlier call, if its block has the finality by now.
    async fn issue_pending(
        &self,
        subject: &Subject<'_>,
        heads: &Heads,
        min: Finality,
    ) -> Result<Option<IssuedCertificate>, CertificateError> {
        let Some((block, evidence)) = self.shared.pending.get(subject.slot) else { return Ok(None) };
        let finality = heads.finality_of(block.number);
        if finality < min {
            return Ok(None);
        }
        match self.chain.seen_block(block).await {
            Ok(seen) => self.issue(subject, evidence, (finality, seen.seen_by)).await.map(Some),
            Err(ProofError::Disagreement(_)) => {
                self.shared.pending.remove(subject.slot);
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps a proof of the newest block until that is final.
    async fn prove_at_head(&self, subject: &Subject<'_>, heads: &Heads, min: Finality) -> CertificateError {
        let pending = self.shared.pending.get(subject.slot).map(|(block, _)| block);
        let block = match pending {
            Some(block) => block,
            None => match self.prove(subject, heads.newest.block).await {
                Ok((evidence, _)) => {
                    self.shared.pending.insert(subject.slot, heads.newest.block, evidence);
                    heads.newest.block
                }
                Err(error) => return failed(error),
            },
        };
        not_final(min, heads.time_until(block.number, min))
    }

    /// Evidence that the record is in the state of this block, and how many endpoints have the block.
    async fn prove(&self, subject: &Subject<'_>, block: Block) -> Result<(Evidence, u64), ProofError> {
        let seen = self.chain.seen_block(block).await?;
        let evidence = |proof: &StateProof| Evidence {
            header: seen.header.clone(),
            block_hash: block.hash,
            account_proof: proof.account.clone(),
            storage_proof: proof.storage.clone(),
        };
        let check = |proof: &StateProof| {
            evidence(proof).check(self.chain.contract(), subject.pair).map_err(|invalid| invalid.to_string())
        };
        let proof = self.chain.state_proof(subject.slot, block.number, check).await?;
        Ok((evidence(&proof), seen.seen_by))
    }

    async fn issue(
        &self,
        subject: &Subject<'_>,
        evidence: Evidence,
        (finality, seen_by): (Finality, u64),
    ) -> Result<IssuedCertificate, CertificateError> {
        // An endpoint may have deleted old events; the certificate proves the record without it.
        let event = self.chain.find_registration(subject.pair, subject.record).await.ok().flatten();
        let network = self.chain.network();
        let certificate = Certificate::build(
            certificate::Chain { id: network.chain_id, name: network.name.clone() },
            self.chain.contract(),
            subject.pair.clone(),
            evidence,
            (finality, seen_by, u64::try_from(now().micros() / 1_000_000).unwrap_or_default()),
            event.map(|event| event.transaction),
        );
        // Never handed out unless our own verifier accepts it.
        let certificate =
            certificate.map_err(|invalid| unavailable(&format!("the certificate is not valid: {invalid}")))?;
        Ok(IssuedCertificate { text: certificate.to_text().into(), media_type: MEDIA_TYPE, finality })
    }
}

fn not_final(finality: Finality, retry_after: Duration) -> CertificateError {
    CertificateError::NotFinal { finality, retry_after }
}

fn unavailable(problem: &str) -> CertificateError {
    CertificateError::ProofUnavailable(problem.to_owned())
}

fn failed(error: ProofError) -> CertificateError {
    match error {
        ProofError::Call(error) => CertificateError::Call(error),
        ProofError::TooOld(_)
        | ProofError::NotOffered
        | ProofError::UnknownHeader(_)
        | ProofError::Disagreement(_)
        | ProofError::Invalid(..) => unavailable(&error.to_string()),
    }
}

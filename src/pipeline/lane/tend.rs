//! Looking after what is out, in the order of its nonces: what is unsent is sent, and what no block takes is helped along.

use super::{Flight, Lane, Phase, replace::Need};
use crate::{
    chain::{Header, Market},
    pipeline::{flights::Held, now},
    registration::{
        diagnosis::{BlockSeen, Hindrance, Meaning},
        policy::{
            fees,
            replacement::{Asked, Remedy, Waiting, remedy},
        },
    },
    telemetry::hindered,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What has waited for so many blocks and so long is not just on its way: what blocks ask is looked at.
const LATE_BLOCKS: u64 = 3;
const LATE: Duration = Duration::from_secs(1);

/// The chain, as it is looked at once for all that is out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) head: Header,
    pub(super) stalled: bool,
}

impl Lane {
    /// Looks after everything that is out, or as far as it comes before `stop`. Returns whether all of it is sent, so that another
    /// transaction may be signed.
    pub(super) async fn tend(&mut self, stop: &CancellationToken) -> bool {
        let flights = self.tools.flights.of(self.address());
        if flights.is_empty() {
            return true;
        }
        let sight = self.sight();
        let mut is_first = true;
        for flight in flights {
            if stop.is_cancelled() {
                return false;
            }
            let phase = flight.progress().phase;
            let sent = match phase {
                Phase::Included { .. } => continue,
                Phase::Signed => self.send_or_mend(&flight, is_first, sight).await,
                Phase::Submitted => {
                    self.look_after(&flight, is_first, sight).await;
                    true
                }
            };
            if is_first {
                self.look_for_gap(&flight, sight).await;
            }
            if !sent {
                return false;
            }
            is_first = false;
        }
        true
    }

    fn sight(&self) -> Option<Sight> {
        let chain = &self.tools.chain;
        // A development node mines on demand: its standing still keeps nothing out.
        let stalled = chain.overview().stalled.is_some() && !chain.network().is_local();
        self.tools.head().map(|head| Sight { head, stalled })
    }

    /// No node is known to have it. Returns whether one has now.
    async fn send_or_mend(&mut self, flight: &Arc<Flight>, is_first: bool, sight: Option<Sight>) -> bool {
        let is_new = flight.progress().broadcast.is_none();
        let due = is_new || Instant::now() >= self.send_at;
        let mended = match self.remedy(flight, is_first, sight).await {
            _ if is_new => false,
            Remedy::Wait | Remedy::Held(_) => false,
            Remedy::Rebroadcast => true,
            Remedy::Replace(fees) => self.raise(flight, fees, need(is_first, sight)).await,
            Remedy::Refresh(fees) => self.raise(flight, fees, Need::None).await,
            Remedy::Split => due && self.split(flight, sight).await,
            Remedy::TooLarge(large) => {
                // A node would refuse it. It is looked at again, but not at once.
                self.send_at = Instant::now() + self.delays.next_delay();
                self.hold(flight, &Hindrance::TooLarge(large)).await;
                return false;
            }
        };
        if due || mended { self.send(flight).await } else { false }
    }

    /// A node has it, or had it, and no block is known to.
    async fn look_after(&mut self, flight: &Arc<Flight>, is_first: bool, sight: Option<Sight>) {
        match self.remedy(flight, is_first, sight).await {
            Remedy::Wait => match cannot_be_paid(flight) {
                Some(hindrance) => self.hold(flight, &hindrance).await,
                None => self.let_go(flight).await,
            },
            Remedy::Held(above) => self.hold(flight, &Hindrance::FeeCap(above)).await,
            Remedy::TooLarge(large) => self.hold(flight, &Hindrance::TooLarge(large)).await,
            Remedy::Rebroadcast => {
                self.let_go(flight).await;
                self.send_once_more(flight).await;
            }
            Remedy::Replace(fees) => {
                if self.raise(flight, fees, need(is_first, sight)).await {
                    self.send_once_more(flight).await;
                }
            }
            Remedy::Refresh(fees) => {
                self.let_go(flight).await;
                if self.raise(flight, fees, Need::None).await {
                    self.send_once_more(flight).await;
                }
            }
            Remedy::Split => {
                if self.split(flight, sight).await {
                    self.send_once_more(flight).await;
                }
            }
        }
    }

    /// The latest version again, to everybody. What is answered decides nothing but what is done next: the chain decides the rest.
    async fn send_once_more(&self, flight: &Flight) {
        flight.rebroadcast(&self.tools).await;
        self.went_out(flight);
    }

    /// What is to be done about a transaction by what is seen now. Asks for the fees of the newest blocks when it matters.
    async fn remedy(&self, flight: &Flight, is_first: bool, sight: Option<Sight>) -> Remedy {
        let Some(Sight { head, stalled }) = sight else { return Remedy::Wait };
        let (versions, (_, offer)) = (flight.versions(), flight.latest());
        let is_priced_out = head.base_fee > offer.max_fee_per_gas;
        let (waited, blocks, was_priced_out, refused) = {
            let mut progress = flight.progress();
            let was_priced_out = progress.priced_out;
            progress.priced_out |= is_priced_out;
            let (since, at_head) = *progress.out.get_or_insert((Instant::now(), head.block.number));
            let refused = progress.memory.refusal.as_ref().map(|refusal| refusal.meaning);
            (since.elapsed(), head.block.number.saturating_sub(at_head), was_priced_out, refused)
        };
        let is_late = blocks >= LATE_BLOCKS && waited >= LATE;
        let market = if !stalled && (is_late || is_priced_out || refused.is_some()) {
            self.tools.chain.market().await.ok()
        } else {
            None
        };
        let asked = asked(market, (&head, stalled), versions.gas_limit, self.tools.chain.max_fee_per_gas());
        remedy(&Waiting {
            offer,
            gas_limit: versions.gas_limit,
            batch_size: versions.batch_size,
            versions: u32::try_from(versions.attempts.len()).unwrap_or(u32::MAX),
            waited,
            blocks,
            is_first,
            was_priced_out,
            refused,
            asked,
        })
    }

    /// Says of all that a transaction carries what it waits for, once.
    pub(super) async fn hold(&mut self, flight: &Flight, hindrance: &Hindrance) {
        let blocked = hindrance.blocked();
        if flight.progress().held == Held::By(blocked) {
            return;
        }
        match self.tools.store.hold(flight.id, Some(blocked), now()).await {
            Ok(_) => {
                flight.progress().held = Held::By(blocked);
                flight.note(format!("held up: {hindrance}"), now());
                self.tell_blocked(&flight.members, blocked, &hindrance.to_string()).await;
            }
            Err(error) => hindered!(error, "a blocked reason could not be written"),
        }
    }

    /// Nothing holds it up any more.
    async fn let_go(&mut self, flight: &Flight) {
        if flight.progress().held == Held::No {
            return;
        }
        match self.tools.store.hold(flight.id, None, now()).await {
            Ok(_) => {
                flight.progress().held = Held::No;
                self.tell_unblocked();
                self.tools.waiters.changed(&self.tools.store, &flight.members).await;
            }
            Err(error) => hindered!(error, "a blocked reason could not be taken back"),
        }
    }
}

/// How much what offers too little needs a higher offer.
fn need(is_first: bool, sight: Option<Sight>) -> Need {
    match sight {
        Some(Sight { head, .. }) if is_first => Need::AllWait { base_fee: head.base_fee },
        Some(_) | None => Need::Waits,
    }
}

/// A node said so when the bytes last went out.
fn cannot_be_paid(flight: &Flight) -> Option<Hindrance> {
    let refusal = flight.progress().memory.refusal.clone();
    refusal.filter(|refusal| refusal.meaning == Meaning::Funds).map(Hindrance::Refused)
}

/// What blocks ask of a transaction with this gas limit; of what is not known, the least.
pub(super) fn asked(market: Option<Market>, (head, stalled): (&Header, bool), gas_limit: u64, cap: u128) -> Asked {
    let history = market.as_ref().and_then(|market| market.history.as_ref());
    let blocks: Vec<BlockSeen> = history.map(|history| history.blocks(head.gas_limit)).unwrap_or_default();
    Asked {
        base_fee: head.base_fee,
        suggested: market.as_ref().map_or(0, |market| market.suggested),
        crowd: fees::crowd(&blocks, gas_limit),
        block_gas: head.gas_limit,
        cap,
        stalled,
    }
}

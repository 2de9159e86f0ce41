//! Whether the service is well: the problems that are visible in an overview, the worst first, and what to do about each.

use super::format;
use crate::{
    pipeline::{Overview, PendingOverview},
    registration::{
        BlockedReason, State,
        diagnosis::{Blocker, EndpointSnapshot},
        units::format_gwei,
    },
    telemetry::{SignerReading, redact},
};
use std::time::Duration;

/// A balance that lasts for less is a problem.
const MIN_DAYS_LEFT: f64 = 3.0;
const SECONDS_PER_DAY: f64 = 86_400.0;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    Critical,
    Warning,
    Good,
}

impl Level {
    /// The class in the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Good => "good",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    pub(super) level: Level,
    pub(super) title: String,
    pub(super) detail: String,
    pub(super) advice: String,
    /// A page with more.
    pub(super) link: Option<String>,
}

/// From the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) confirmation: Duration,
    pub(super) queue: Duration,
}

/// The worst first.
pub(super) fn problems(overview: &Overview, timeouts: Timeouts) -> Vec<Problem> {
    let mut all = Vec::new();
    if !overview.is_store_usable {
        all.push(Problem {
            level: Level::Critical,
            title: "The database cannot be used".to_owned(),
            detail: "Nothing is accepted until it can be read and written again.".to_owned(),
            advice: "The log names the reason, for example a full disk or a server that does not answer. Work that \
                     was accepted before continues by itself."
                .to_owned(),
            link: None,
        });
    }
    all.extend(endpoint_problems(overview));
    all.extend(blocked_signers(overview));
    all.extend(late_transactions(overview, timeouts.confirmation));
    if let Some(waiting) = overview.oldest_queued.map(|since| overview.at.since(since))
        && waiting >= timeouts.queue
    {
        all.push(Problem {
            level: Level::Critical,
            title: format!("Registrations wait in the queue for {}", format::age(waiting)),
            detail: format!("The queue timeout (REGISTRAR_QUEUE_TIMEOUT) is {}.", format::duration(timeouts.queue)),
            advice: "The page of a waiting registration says what it waits for.".to_owned(),
            link: None,
        });
    }
    all.extend(overview.signers.iter().filter_map(|signer| {
        let days = days_left(&signer.reading)?;
        is_short(days).then(|| Problem {
            level: Level::Warning,
            title: format!("The funds of signer {} last for {days:.1} days", format::short(&signer.address)),
            detail: format!("It has {}.", format::eth(signer.reading.balance.unwrap_or_default())),
            advice: "Send it ETH before it is blocked by INSUFFICIENT_FUNDS.".to_owned(),
            link: None,
        })
    }));
    all.sort_by_key(|problem| problem.level);
    all
}

/// Signers that are blocked alike are one problem.
fn blocked_signers(overview: &Overview) -> Vec<Problem> {
    let mut groups: Vec<(&Blocker, Vec<String>)> = Vec::new();
    for signer in &overview.signers {
        let Some(blocker) = &signer.blocker else { continue };
        match groups.iter_mut().find(|(known, _)| *known == blocker) {
            Some((_, signers)) => signers.push(format::short(&signer.address)),
            None => groups.push((blocker, vec![format::short(&signer.address)])),
        }
    }
    let problem = |(blocker, signers): (&Blocker, Vec<String>)| {
        let noun = if signers.len() == 1 { "Signer" } else { "Signers" };
        Problem {
            level: Level::Critical,
            title: format!("{noun} {} cannot send: {}", signers.join(", "), blocker.blocked_reason().code()),
            detail: sentence(&redact(&blocker.to_string())),
            advice: further_advice(blocker).to_owned(),
            link: None,
        }
    };
    groups.into_iter().map(problem).collect()
}

/// Empty where the text of the blocker says what to do.
fn further_advice(blocker: &Blocker) -> &'static str {
    match blocker {
        Blocker::InsufficientFunds { .. }
        | Blocker::SignerNotAllowed(_)
        | Blocker::FeeCap(_)
        | Blocker::DailyBudget(_)
        | Blocker::TooLarge(_) => "",
        Blocker::NoEndpoint(_)
        | Blocker::NoContract { .. }
        | Blocker::Rejected(_)
        | Blocker::SignerUnavailable(_)
        | Blocker::SignerThrottled(_)
        | Blocker::Other(_) => advice(blocker.blocked_reason()),
    }
}

fn endpoint_problems(overview: &Overview) -> Vec<Problem> {
    let chain = &overview.chain;
    let mut all = Vec::new();
    if chain.usable.is_empty() {
        all.push(Problem {
            level: Level::Critical,
            title: "No RPC endpoint is usable".to_owned(),
            detail: chain.unusable.iter().map(describe).collect::<Vec<_>>().join("; ") + ".",
            advice: "Registrations are accepted and wait. Check the providers, or change REGISTRAR_RPC_URLS."
                .to_owned(),
            link: None,
        });
    }
    if let Some(stall) = chain.stalled.filter(|_| !chain.mines_on_demand || is_work_pending(overview)) {
        all.push(Problem {
            level: Level::Critical,
            title: format!("The chain has produced no block for {}", format::age(stall.duration)),
            detail: format!("Every endpoint reports block {} as the newest.", format::count(stall.head)),
            advice: "Nothing is lost, and no fee is raised meanwhile. Compare with the status page of the network."
                .to_owned(),
            link: None,
        });
    }
    let usable = !chain.usable.is_empty();
    let impaired = chain.usable.iter().filter(|endpoint| endpoint.error.is_some());
    all.extend(chain.unusable.iter().filter(|_| usable).chain(impaired).map(|endpoint| Problem {
        level: Level::Warning,
        title: format!("Endpoint {} is {}", endpoint.name, endpoint.state),
        detail: endpoint.error.as_deref().map(|error| sentence(&redact(error))).unwrap_or_default(),
        advice: "The other endpoints are used until it answers well again.".to_owned(),
        link: None,
    }));
    all
}

fn is_work_pending(overview: &Overview) -> bool {
    overview.pending.iter().any(|pending| pending.state != State::Included)
}

fn describe(endpoint: &EndpointSnapshot) -> String {
    let error = endpoint.error.as_deref().map(|error| format!(" ({})", redact(error))).unwrap_or_default();
    format!("{} is {}{error}", endpoint.name, endpoint.state)
}

fn late_transactions(overview: &Overview, timeout: Duration) -> Option<Problem> {
    let age = |pending: &PendingOverview| Some(overview.at.since(pending.submitted_at?));
    let late = overview.pending.iter().filter(|pending| age(pending).is_some_and(|age| age >= timeout));
    let late: Vec<_> = late.collect();
    let first = late.first()?;
    let base_fee = overview.head.map(|head| head.base_fee).filter(|base_fee| *base_fee > first.fees.max_fee_per_gas);
    let fee = base_fee.map(|base_fee| {
        format!(
            " Its fee cap of {} is below the base fee of {}.",
            format_gwei(first.fees.max_fee_per_gas),
            format_gwei(base_fee)
        )
    });
    Some(Problem {
        level: Level::Critical,
        title: match late.len() {
            1 => "A transaction is not confirmed in time".to_owned(),
            several => format!("{several} transactions are not confirmed in time"),
        },
        detail: format!(
            "The one with nonce {} of {} was sent {} ago; the timeout (REGISTRAR_CONFIRMATION_TIMEOUT) is {}.{}",
            first.nonce,
            format::short(&first.signer),
            format::age(age(first).unwrap_or_default()),
            format::duration(timeout),
            fee.unwrap_or_default()
        ),
        advice: "It is followed, sent again and replaced until a block includes it. The page of its first \
                 registration names the cause."
            .to_owned(),
        link: first.first.map(|id| format!("/ui/registrations/{id}")),
    })
}

/// At the spend of the last week, or of the time since the start; `None` where nothing is known or spent.
pub(super) fn days_left(signer: &SignerReading) -> Option<f64> {
    let spend = signer.spend.filter(|spend| spend.wei > 0.0)?;
    let per_day = spend.wei / (spend.over.as_secs_f64() / SECONDS_PER_DAY);
    Some(signer.balance? / per_day)
}

pub(super) fn is_short(days_left: f64) -> bool {
    days_left < MIN_DAYS_LEFT
}

/// What an operator does about a blocked reason.
pub(super) fn advice(reason: BlockedReason) -> &'static str {
    match reason {
        BlockedReason::InsufficientFunds => "Send the signer ETH; the work continues by itself.",
        BlockedReason::SignerNotAllowed => "The owner of the contract allows the signer: registrar allow SIGNER.",
        BlockedReason::FeeCap => "Wait until fees fall, or raise REGISTRAR_MAX_FEE_GWEI.",
        BlockedReason::DailyBudget => "Wait until 00:00 UTC or until fees fall, or raise REGISTRAR_DAILY_BUDGET_ETH.",
        BlockedReason::NoEndpoint => "Check the providers of the endpoints, or change REGISTRAR_RPC_URLS.",
        BlockedReason::AwaitingConfirmations => {
            "Nothing to do: the pair is on chain already, in a block that is not deep enough yet."
        }
        BlockedReason::NodeRefuses => "The message of the node says what it rejects; it is tried again by itself.",
        BlockedReason::TooLarge => "Wait until the chain's limit of gas rises; it is tried again by itself.",
        BlockedReason::SignerUnavailable => "Check the remote signer; other signers take what is not signed.",
        BlockedReason::SignerThrottled => "Raise the limit of the remote signer, or add a signer.",
    }
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return String::new() };
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    // An address or a host name stays as it is.
    let is_word = text.split_whitespace().next().is_some_and(|word| word.chars().all(char::is_alphabetic));
    let first = if is_word { first.to_uppercase().to_string() } else { first.to_string() };
    format!("{first}{}{end}", characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pipeline::{Header, SignerOverview},
        registration::{
            Block, Timestamp,
            diagnosis::{ChainSnapshot, StallSnapshot},
            policy::fees::{FeeCapExceeded, Fees},
        },
        telemetry::{RecentActivity, Spend},
    };
    use alloy::primitives::{Address, B256};

    const TIMEOUTS: Timeouts = Timeouts { confirmation: Duration::from_secs(30), queue: Duration::from_secs(60) };
    const NOW: u64 = 1_000;
    const GWEI: u128 = 1_000_000_000;

    fn endpoint(name: &str, state: &'static str, error: Option<&str>) -> EndpointSnapshot {
        let error = error.map(str::to_owned);
        EndpointSnapshot { name: name.to_owned(), state, head: Some(7), lag: None, latency: None, error }
    }

    fn signer(byte: u8, blocker: Option<Blocker>) -> SignerOverview {
        let reading = SignerReading { balance: Some(1e18), nonce_lag: 0, has_lease: true, spend: None };
        SignerOverview { address: Address::repeat_byte(byte), reading, blocker }
    }

    fn pending(state: State, submitted_before: u64) -> PendingOverview {
        PendingOverview {
            signer: Address::repeat_byte(1),
            nonce: 5,
            hash: B256::ZERO,
            fees: Fees { max_fee_per_gas: 2 * GWEI, max_priority_fee_per_gas: GWEI },
            gas_limit: 50_000,
            attempts: 1,
            registrations: 1,
            first: None,
            state,
            signed_at: Timestamp::from_seconds(NOW - submitted_before),
            submitted_at: Some(Timestamp::from_seconds(NOW - submitted_before)),
            last_rejection: None,
            history: Vec::new(),
        }
    }

    fn well() -> Overview {
        let block = Block { number: 7, hash: B256::ZERO, time: Timestamp::from_seconds(NOW - 1) };
        Overview {
            at: Timestamp::from_seconds(NOW),
            is_store_usable: true,
            head: Some(Header { block, parent_hash: B256::ZERO, gas_limit: 30_000_000, base_fee: GWEI }),
            chain: ChainSnapshot { usable: vec![endpoint("a.example", "healthy", None)], ..ChainSnapshot::default() },
            signers: vec![signer(1, None), signer(2, None)],
            pending: vec![pending(State::Submitted, 29), pending(State::Included, 5)],
            unfinished: Vec::new(),
            oldest_queued: Some(Timestamp::from_seconds(NOW - 59)),
            activity: RecentActivity {
                counts: Vec::new(),
                stages: Vec::new(),
                failures: Vec::new(),
                timeouts: Vec::new(),
                observed_for: Duration::ZERO,
            },
            latest: None,
            failed: None,
        }
    }

    fn titles(change: impl FnOnce(&mut Overview)) -> Vec<(Level, String)> {
        let mut overview = well();
        change(&mut overview);
        problems(&overview, TIMEOUTS).into_iter().map(|problem| (problem.level, problem.title)).collect()
    }

    #[track_caller]
    fn assert_one(change: impl FnOnce(&mut Overview), level: Level, words: &str) {
        let found = titles(change);
        assert!(matches!(&found[..], [(of, title)] if *of == level && title.contains(words)), "{words}: {found:?}");
    }

    #[test]
    fn a_service_that_is_well_has_no_problem() {
        assert_eq!(titles(|_| {}), []);
    }

    #[test]
    fn each_problem_is_named() {
        let critical = Level::Critical;
        assert_one(|overview| overview.is_store_usable = false, critical, "database cannot be used");
        assert_one(
            |overview| overview.oldest_queued = Some(Timestamp::from_seconds(NOW - 60)),
            critical,
            "for 1 min 0 s",
        );
        assert_one(|overview| overview.pending.push(pending(State::Submitted, 30)), critical, "A transaction is not");
        let down = endpoint("b.example", "down", Some("connection refused"));
        assert_one(|overview| overview.chain.unusable.push(down.clone()), Level::Warning, "b.example is down");
        let all_down = |overview: &mut Overview| {
            overview.chain = ChainSnapshot { unusable: vec![down.clone()], ..ChainSnapshot::default() };
        };
        assert_one(all_down, critical, "No RPC endpoint is usable");
        let short = |overview: &mut Overview| {
            overview.signers[0].reading.spend = Some(Spend { wei: 1e18, over: Duration::from_secs(86_400) });
        };
        assert_one(short, Level::Warning, "last for 1.0 days");
    }

    #[test]
    fn a_chain_that_mines_on_demand_stalls_only_with_work() {
        let stalled = |mines_on_demand: bool, has_work: bool| {
            titles(|overview| {
                let stall = StallSnapshot { head: 7, duration: Duration::from_secs(12) };
                (overview.chain.stalled, overview.chain.mines_on_demand) = (Some(stall), mines_on_demand);
                overview.pending.retain(|_| has_work);
            })
            .len()
        };
        assert_eq!(
            [(false, false), (false, true), (true, true), (true, false)].map(|(a, b)| stalled(a, b)),
            [1, 1, 1, 0]
        );
    }

    #[test]
    fn signers_that_are_blocked_alike_are_one_problem_and_the_worst_comes_first() {
        let cap = Blocker::FeeCap(FeeCapExceeded { needed: 7 * GWEI, cap: 5 * GWEI });
        let mut overview = well();
        overview.signers = vec![signer(1, Some(cap.clone())), signer(2, Some(cap)), signer(3, None)];
        overview.signers[2].reading.spend = Some(Spend { wei: 1e18, over: Duration::from_secs(86_400) });
        let found = problems(&overview, TIMEOUTS);
        assert_eq!(found.iter().map(|problem| problem.level).collect::<Vec<_>>(), [Level::Critical, Level::Warning]);
        assert!(found[0].title.starts_with("Signers 0x01010101…01010101, 0x02020202…02020202 cannot send: FEE_CAP"));
        assert_eq!(found[0].advice, "", "the detail says it");
        assert!(found[0].detail.ends_with("raise REGISTRAR_MAX_FEE_GWEI."), "{}", found[0].detail);
    }

    #[test]
    fn a_late_transaction_below_the_base_fee_says_so() {
        let mut overview = well();
        overview.pending = vec![pending(State::Submitted, 45)];
        overview.head.as_mut().unwrap().base_fee = 3 * GWEI;
        let found = problems(&overview, TIMEOUTS);
        assert!(
            found[0].detail.ends_with("Its fee cap of 2 gwei is below the base fee of 3 gwei."),
            "{}",
            found[0].detail
        );
    }
}

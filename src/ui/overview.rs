//! The first page: how the service is doing.

use super::{
    format,
    health::{self, Level, Problem, Timeouts},
    page::Page,
    plot::Plot,
    rows::RegistrationRow,
};
use crate::{
    auth::Authenticator,
    pipeline::{Overview, PendingOverview, Registrar, SignerOverview},
    registration::{ErrorReason, State, diagnosis::EndpointSnapshot},
    telemetry::{RECENT_SLOT, RecentActivity, RecentCounts, RecentStage, Stage, metrics, redact},
};
use askama::Template;
use std::time::Duration;

/// Outcomes of calls that were refused because of their callers.
const REFUSALS: [ErrorReason; 7] = [
    ErrorReason::CredentialsMissing,
    ErrorReason::CredentialsInvalid,
    ErrorReason::CredentialsExpired,
    ErrorReason::ScopeMissing,
    ErrorReason::CaseNotAllowed,
    ErrorReason::RateLimited,
    ErrorReason::CallerLimit,
];

#[derive(Template)]
#[template(path = "overview.html")]
pub(super) struct OverviewPage {
    page: Page,
    level: Level,
    title: &'static str,
    problems: Vec<Problem>,
    facts: Vec<Fact>,
    rates: Vec<Rate>,
    states: Vec<(&'static str, String)>,
    oldest_queued: String,
    stages: Vec<StageRow>,
    pending: Vec<PendingRow>,
    signers: Vec<SignerRow>,
    endpoints: Vec<EndpointRow>,
    causes: Vec<CauseRow>,
    callers: Vec<CallerRow>,
    identifies_callers: bool,
    latest: Option<Vec<RegistrationRow>>,
    failed: Option<Vec<RegistrationRow>>,
    observed_for: String,
}

struct Fact {
    label: &'static str,
    value: String,
    level: Level,
}

struct Rate {
    label: &'static str,
    in_last_minute: String,
    plot: Plot,
}

struct StageRow {
    name: &'static str,
    meaning: &'static str,
    p50: String,
    p95: String,
    plot: Plot,
}

struct PendingRow {
    signer: String,
    nonce: String,
    hash: String,
    full_hash: String,
    state: &'static str,
    registrations: String,
    link: Option<String>,
    age: String,
    is_late: bool,
    attempts: String,
    fee: String,
    is_underpriced: bool,
}

struct SignerRow {
    address: String,
    full_address: String,
    balance: String,
    days_left: String,
    is_short: bool,
    nonce_lag: String,
    holder: &'static str,
    blocker: Option<&'static str>,
}

struct EndpointRow {
    name: String,
    state: &'static str,
    level: Level,
    head: String,
    lag: String,
    latency: String,
    error: String,
}

struct CauseRow {
    cause: &'static str,
    transactions: String,
    queued: String,
    failures: String,
}

struct CallerRow {
    name: String,
    allowed: String,
    refused: String,
    reasons: String,
}

impl OverviewPage {
    pub(super) fn new(registrar: &Registrar, authenticator: &Authenticator, overview: &Overview) -> Self {
        let timeouts = Timeouts { confirmation: registrar.confirmation_timeout(), queue: registrar.queue_timeout() };
        let problems = health::problems(overview, timeouts);
        let level = problems.first().map_or(Level::Good, |worst| worst.level);
        let rows = |listed: &Option<Vec<_>>| {
            let listed = listed.as_ref()?;
            Some(listed.iter().map(|one| RegistrationRow::new(one, overview.at)).collect())
        };
        let base_fee = overview.head.map(|head| head.base_fee);
        Self {
            page: Page::new(registrar, overview.at).live(true),
            level,
            title: match level {
                Level::Good => "Everything works",
                Level::Warning => "Working, with warnings",
                Level::Critical => "Needs attention",
            },
            problems,
            facts: facts(overview),
            rates: rates(&overview.activity),
            states: overview.unfinished.iter().map(|(state, count)| (state.code(), format::count(*count))).collect(),
            oldest_queued: overview
                .oldest_queued
                .map_or_else(|| "none".to_owned(), |since| format::age(overview.at.since(since))),
            stages: overview.activity.stages.iter().map(StageRow::new).collect(),
            pending: overview
                .pending
                .iter()
                .map(|pending| PendingRow::new(pending, overview, timeouts.confirmation, base_fee))
                .collect(),
            signers: overview.signers.iter().map(SignerRow::new).collect(),
            endpoints: overview.chain.usable.iter().chain(&overview.chain.unusable).map(EndpointRow::new).collect(),
            causes: causes(&overview.activity),
            callers: callers(authenticator),
            identifies_callers: authenticator.identifies_callers(),
            latest: rows(&overview.latest),
            failed: rows(&overview.failed),
            observed_for: format::age(overview.activity.observed_for),
        }
    }
}

fn facts(overview: &Overview) -> Vec<Fact> {
    let usable = overview.chain.usable.len();
    let endpoints = usable + overview.chain.unusable.len();
    let fact =
        |label, value, is_good| Fact { label, value, level: if is_good { Level::Good } else { Level::Critical } };
    let unknown = || "not known yet".to_owned();
    let stalled = overview.chain.stalled.is_some() && !overview.chain.mines_on_demand;
    let head_age = overview.head.map(|head| format::age(overview.at.since(head.block.time)));
    vec![
        fact(
            "Readiness",
            if overview.is_store_usable { "ready".to_owned() } else { "not ready".to_owned() },
            overview.is_store_usable,
        ),
        fact("Endpoints", format!("{usable} of {endpoints} usable"), usable > 0),
        fact("Newest block", overview.head.map_or_else(unknown, |head| format::count(head.block.number)), !stalled),
        fact("Head age", head_age.unwrap_or_else(unknown), !stalled),
        fact("Base fee", overview.head.map_or_else(unknown, |head| format::gwei(head.base_fee)), true),
    ]
}

fn rates(activity: &RecentActivity) -> Vec<Rate> {
    let rate = |label: &'static str, of: fn(&RecentCounts) -> u64| {
        let per_minute = 60.0 / RECENT_SLOT.as_secs_f64();
        let values: Vec<_> = activity.counts.iter().map(|slot| of(slot) as f64 * per_minute).collect();
        let (now, peak) = (activity.in_last_minute(of), values.iter().copied().fold(0.0, f64::max));
        let now = format::count(now);
        let label_of_plot = format!(
            "{label}: {now} in the last minute, at most {} a minute in ten minutes",
            format::count(peak as u64)
        );
        let plot = Plot::new(&values.into_iter().map(Some).collect::<Vec<_>>(), label_of_plot);
        Rate { label, in_last_minute: now, plot }
    };
    vec![
        rate("Accepted", |slot| slot.accepted),
        rate("Confirmed", |slot| slot.confirmed),
        rate("Failed", |slot| slot.failed),
    ]
}

impl StageRow {
    fn new(recent: &RecentStage) -> Self {
        let (name, meaning) = match recent.stage {
            Stage::Prepare => ("prepare", "from the queue to signed bytes on disk"),
            Stage::Send => ("send", "from signed to accepted by a node"),
            Stage::Wait => ("wait", "from accepted by a node to confirmed"),
            Stage::Total => ("total", "of a registration, from accepted to confirmed"),
        };
        let text = |value: Option<Duration>| value.map_or_else(|| "none".to_owned(), format::duration);
        let (p50, p95) = (text(recent.p50), text(recent.p95));
        let values: Vec<_> = recent.p95_by_slot.iter().map(|value| Some(value.as_ref()?.as_secs_f64())).collect();
        let plot = Plot::new(&values, format!("95th percentile of {name} in the last ten minutes: {p95}"));
        Self { name, meaning, p50, p95, plot }
    }
}

impl PendingRow {
    fn new(pending: &PendingOverview, overview: &Overview, timeout: Duration, base_fee: Option<u128>) -> Self {
        let max_fee = pending.fees.max_fee_per_gas;
        let waiting = overview.at.since(pending.submitted_at.unwrap_or(pending.signed_at));
        let of_base_fee = base_fee.map(|base_fee| of_base_fee(max_fee, base_fee)).unwrap_or_default();
        Self {
            signer: format::short(&pending.signer),
            nonce: pending.nonce.to_string(),
            hash: format::short(&pending.hash),
            full_hash: pending.hash.to_string(),
            state: pending.state.code(),
            registrations: format::count(pending.registrations as u64),
            link: pending.first.map(|id| format!("/ui/registrations/{id}")),
            age: format::age(waiting),
            is_late: pending.submitted_at.is_some() && waiting >= timeout,
            attempts: pending.attempts.to_string(),
            fee: format!("{}{of_base_fee}", format::gwei(max_fee)),
            is_underpriced: base_fee.is_some_and(|base_fee| max_fee < base_fee) && pending.state != State::Included,
        }
    }
}

fn of_base_fee(max_fee: u128, base_fee: u128) -> String {
    let ratio = max_fee as f64 / base_fee.max(1) as f64;
    match ratio {
        _ if ratio < 0.01 => " (below 1% of the base fee)".to_owned(),
        _ if ratio < 1.0 => format!(" ({:.0}% of the base fee)", ratio * 100.0),
        _ => format!(" ({ratio:.1} times the base fee)"),
    }
}

impl SignerRow {
    fn new(signer: &SignerOverview) -> Self {
        let reading = &signer.reading;
        let days = health::days_left(reading);
        Self {
            address: format::short(&signer.address),
            full_address: signer.address.to_string(),
            balance: reading.balance.map_or_else(|| "unknown".to_owned(), format::eth),
            days_left: match days {
                Some(days) if days > 1_000.0 => "more than 1,000".to_owned(),
                Some(days) => format!("{days:.1}"),
                None => "unknown".to_owned(),
            },
            is_short: days.is_some_and(health::is_short),
            nonce_lag: reading.nonce_lag.to_string(),
            holder: if reading.has_lease { "this replica" } else { "not this replica" },
            blocker: signer.blocker.as_ref().map(|blocker| blocker.blocked_reason().code()),
        }
    }
}

impl EndpointRow {
    fn new(endpoint: &EndpointSnapshot) -> Self {
        let none = || "none".to_owned();
        Self {
            name: endpoint.name.clone(),
            state: endpoint.state,
            level: match endpoint.state {
                "healthy" => Level::Good,
                "degraded" | "suspect" => Level::Warning,
                _ => Level::Critical,
            },
            head: endpoint.head.map_or_else(none, format::count),
            lag: endpoint.lag.map_or_else(none, format::duration),
            latency: endpoint.latency.map_or_else(none, format::duration),
            error: endpoint.error.as_deref().map(|error| redact(error).into_owned()).unwrap_or_default(),
        }
    }
}

/// Those that occurred since the start.
fn causes(activity: &RecentActivity) -> Vec<CauseRow> {
    let none = || "0".to_owned();
    let timeouts = activity.timeouts.iter().map(|(cause, timeouts)| CauseRow {
        cause,
        transactions: format::count(timeouts.transactions),
        queued: format::count(timeouts.queued),
        failures: none(),
    });
    let failures = activity.failures.iter().map(|(reason, count)| CauseRow {
        cause: reason,
        transactions: none(),
        queued: none(),
        failures: format::count(*count),
    });
    failures.chain(timeouts).collect()
}

/// Those of the callers file, and then calls whose callers are not known.
fn callers(authenticator: &Authenticator) -> Vec<CallerRow> {
    if !authenticator.identifies_callers() {
        return Vec::new();
    }
    let row = |name: &str, title: String| {
        let refused = REFUSALS.map(|reason| (reason.code(), metrics().calls_of(name, reason.code())));
        let reasons = refused.iter().filter(|(_, count)| *count > 0);
        CallerRow {
            name: title,
            allowed: format::count(metrics().calls_of(name, "allowed")),
            refused: format::count(refused.iter().map(|(_, count)| count).sum()),
            reasons: reasons.map(|(code, count)| format!("{code} {count}")).collect::<Vec<_>>().join(", "),
        }
    };
    let known = authenticator.caller_names().into_iter().map(|name| row(name.as_str(), name.to_string()));
    known.chain([row("", "not known".to_owned())]).collect()
}

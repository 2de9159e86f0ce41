//! The page of one registration: where it is, why it is not further, and what is known of its transaction.

use super::{format, health, page::Page, settings::Settings, waterfall::Waterfall};
use crate::{
    pipeline::{PendingOverview, Registrar},
    registration::{
        Diagnosis, Finality, OwnTransaction, Registration, State, Timestamp, Transaction,
        units::{format_eth, format_gwei},
    },
    telemetry::redact,
};
use alloy::primitives::U256;
use askama::Template;

#[derive(Template)]
#[template(path = "registration.html")]
pub(super) struct RegistrationPage {
    page: Page,
    state: &'static str,
    state_class: &'static str,
    summary: String,
    document: String,
    case_id: String,
    notices: Vec<Notice>,
    diagnosis_title: &'static str,
    diagnosis: Option<DiagnosisView>,
    /// Whether one is being made.
    is_diagnosing: bool,
    waterfall: Waterfall,
    timeline: Vec<Step>,
    transaction: Vec<Field>,
    /// The address of the certificate, once there is a record to prove.
    certificate: Option<String>,
    history: Vec<Step>,
    identity: Vec<Field>,
}

struct Notice {
    class: &'static str,
    title: String,
    text: String,
}

struct DiagnosisView {
    cause: &'static str,
    explanation: String,
    at: String,
    evidence: Vec<(String, String)>,
}

struct Step {
    at: String,
    at_rfc3339: String,
    text: String,
    /// Since the acceptance; `None` for the acceptance itself.
    after: Option<String>,
}

struct Field {
    label: &'static str,
    value: String,
    link: Option<String>,
    is_code: bool,
}

impl Field {
    fn text(label: &'static str, value: impl ToString) -> Self {
        Self { label, value: value.to_string(), link: None, is_code: false }
    }

    /// A hash, an id or an address.
    fn code(label: &'static str, value: impl ToString) -> Self {
        Self { is_code: true, ..Self::text(label, value) }
    }

    fn linked(self, link: Option<String>) -> Self {
        Self { link: link.filter(|link| !link.is_empty()), ..self }
    }
}

/// What was found about a registration.
pub(super) struct Found {
    pub(super) registration: Registration,
    pub(super) at: Timestamp,
    /// Its transaction, while it is pending here.
    pub(super) pending: Option<PendingOverview>,
    /// Made now, or the latest one that is stored.
    pub(super) diagnosis: Option<Diagnosis>,
    pub(super) is_diagnosing: bool,
}

impl RegistrationPage {
    pub(super) fn new(registrar: &Registrar, settings: &Settings, found: &Found) -> Self {
        let Found { registration, at, pending, diagnosis, is_diagnosing } = found;
        let pair = &registration.request.pair;
        Self {
            page: Page::new(registrar, *at).live(may_change(registration)),
            state: registration.state.code(),
            state_class: state_class(registration),
            summary: summary(registration, *at),
            document: pair.document_hash.to_string(),
            case_id: pair.case_id.to_string(),
            notices: notices(registration),
            diagnosis_title: match registration.state {
                State::Confirmed | State::Failed => "Diagnosis while it was late",
                State::Queued | State::Signed | State::Submitted | State::Included => "Diagnosis",
            },
            diagnosis: diagnosis.as_ref().map(DiagnosisView::new),
            is_diagnosing: *is_diagnosing && diagnosis.is_none(),
            waterfall: Waterfall::new(registration, *at),
            timeline: timeline(registration),
            transaction: registration
                .transaction
                .as_ref()
                .map(|transaction| transaction_fields(registrar, registration, transaction, pending.as_ref()))
                .unwrap_or_default(),
            certificate: (registration.state == State::Confirmed)
                .then(|| format!("/ui/registrations/{}/certificate", registration.id)),
            history: pending.as_ref().map(|pending| history(registration, pending)).unwrap_or_default(),
            identity: identity(registration, settings),
        }
    }
}

/// A finalized or failed registration does not change by itself.
fn may_change(registration: &Registration) -> bool {
    match registration.state {
        State::Queued | State::Signed | State::Submitted | State::Included => true,
        State::Confirmed => registration.finality != Some(Finality::Finalized),
        State::Failed => false,
    }
}

fn state_class(registration: &Registration) -> &'static str {
    match registration.state {
        State::Confirmed => "good",
        State::Failed => "critical",
        State::Queued | State::Signed | State::Submitted | State::Included => {
            let is_late = registration.times.timed_out.is_some() || registration.times.delayed.is_some();
            if is_late || registration.blocked_reason.is_some() { "warning" } else { "neutral" }
        }
    }
}

fn summary(registration: &Registration, at: Timestamp) -> String {
    let times = &registration.times;
    let since = |from: Timestamp| format::age(at.since(from));
    match registration.state {
        State::Queued => format!("In the queue for {}: no node has a transaction for it.", since(times.queued)),
        State::Signed => "Its transaction is signed and on disk; no node is known to have it.".to_owned(),
        State::Submitted => format!(
            "A node accepted its transaction {} ago; no block includes it yet.",
            since(times.submitted.unwrap_or(times.created))
        ),
        State::Included => "In a canonical block that is not deep enough yet.".to_owned(),
        State::Confirmed => {
            let finality = match registration.finality {
                Some(Finality::Finalized) => "its block is final",
                Some(Finality::Safe) => "its block is safe, and not final yet",
                Some(Finality::Unsafe) | None => "its block is neither safe nor final yet",
            };
            let took = times.confirmed.map(|confirmed| format::duration(confirmed.since(times.created)));
            format!("On chain after {}; {finality}.", took.unwrap_or_else(|| "an unknown time".to_owned()))
        }
        State::Failed => "It cannot succeed as it is. Registering the pair again starts it anew.".to_owned(),
    }
}

fn notices(registration: &Registration) -> Vec<Notice> {
    let mut all = Vec::new();
    if let Some(failure) = registration.failure.as_ref().filter(|_| registration.state == State::Failed) {
        let (title, text) = (failure.reason.code().to_owned(), redact(&failure.message).into_owned());
        all.push(Notice { class: "critical", title, text });
    }
    if let Some(reason) = registration.blocked_reason {
        let text = health::advice(reason).to_owned();
        all.push(Notice { class: "warning", title: format!("Blocked: {}", reason.code()), text });
    }
    if let Some(warning) = registration.request.warning() {
        let title = "The hash may not be that of the file".to_owned();
        all.push(Notice { class: "warning", title, text: warning.to_string() });
    }
    all
}

impl DiagnosisView {
    fn new(diagnosis: &Diagnosis) -> Self {
        let evidence = diagnosis.evidence.iter().map(|(key, value)| (key.clone(), redact(value).into_owned()));
        Self {
            cause: diagnosis.cause.code(),
            explanation: redact(&diagnosis.explanation).into_owned(),
            at: format::time(diagnosis.time),
            evidence: evidence.collect(),
        }
    }
}

fn step(registration: &Registration, at: Timestamp, text: impl Into<String>) -> Step {
    Step {
        at: format::exact_time(at),
        at_rfc3339: format::rfc3339(at),
        text: text.into(),
        after: Some(at.since(registration.times.created)).filter(|after| !after.is_zero()).map(format::duration),
    }
}

fn timeline(registration: &Registration) -> Vec<Step> {
    let times = &registration.times;
    let transaction = registration.transaction.as_ref();
    let own = transaction.and_then(|transaction| transaction.own.as_ref());
    let block = transaction.and_then(|transaction| transaction.block);
    let queued_again = Some(times.queued).filter(|queued| *queued != times.created);
    let mut all: Vec<(Timestamp, String)> = [
        (Some(times.created), "accepted: on disk".to_owned()),
        (queued_again, "queued again".to_owned()),
        (times.delayed, "queue timeout: diagnosed and reported".to_owned()),
        (own.map(|own| own.prepared_at), "taken from the queue".to_owned()),
        (own.map(|own| own.signed_at), "signed: bytes and nonce on disk".to_owned()),
        (times.submitted, "sent: a node accepted the transaction".to_owned()),
        (times.timed_out, "confirmation timeout: diagnosed and reported".to_owned()),
        (
            times.included,
            block.map_or_else(String::new, |block| format!("included in block {}", format::count(block.number))),
        ),
        (times.confirmed, "confirmed at the required depth".to_owned()),
        (times.failed.filter(|_| registration.state == State::Failed), "failed".to_owned()),
    ]
    .into_iter()
    .filter_map(|(at, text)| Some((at?, text)))
    .filter(|(_, text)| !text.is_empty())
    .collect();
    // Stable, so that steps of the same moment stay in their order.
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(at, text)| step(registration, at, text)).collect()
}

/// What happened to its transaction since this process knows it.
fn history(registration: &Registration, pending: &PendingOverview) -> Vec<Step> {
    pending.history.iter().map(|(at, text)| step(registration, *at, redact(text).into_owned())).collect()
}

fn transaction_fields(
    registrar: &Registrar,
    registration: &Registration,
    transaction: &Transaction,
    pending: Option<&PendingOverview>,
) -> Vec<Field> {
    let explorer = registrar.network().explorer_url(transaction.hash);
    let mut fields =
        vec![Field::code("hash", transaction.hash).linked(Some(explorer)), Field::code("signer", transaction.from)];
    if let Some(block) = transaction.block {
        let head = registrar.head().map_or(0, |head| head.block.number);
        let least = if registration.state == State::Confirmed { registrar.confirmations() } else { 1 };
        let depth = (head + 1).saturating_sub(block.number).max(least);
        fields.push(Field::text("block", format::count(block.number)));
        fields.push(Field::code("block hash", block.hash));
        fields.push(Field::text(
            "confirmations",
            format!("{} of {} required", format::count(depth), registrar.confirmations()),
        ));
    }
    match &transaction.own {
        Some(own) => fields.extend(own_fields(own)),
        None => fields.push(Field::text("sent by", "another sender, before this registration")),
    }
    if let Some(pending) = pending {
        fields.push(Field::text("fee cap", per_gas(registrar, pending.fees.max_fee_per_gas)));
        fields.push(Field::text("priority fee", format_gwei(pending.fees.max_priority_fee_per_gas)));
        fields.push(Field::text("gas limit", format::count(pending.gas_limit)));
        if let Some(rejection) = &pending.last_rejection {
            let text = format!("{} (code {}): {}", rejection.endpoint, rejection.code, redact(&rejection.message));
            fields.push(Field::text("last rejection", text));
        }
    }
    fields
}

fn per_gas(registrar: &Registrar, max_fee: u128) -> String {
    let base_fee = registrar.head().map(|head| head.base_fee).filter(|base_fee| *base_fee > 0);
    let comparison = base_fee.map(|base_fee| {
        let relation = if max_fee < base_fee { "below" } else { "above" };
        format!(", {relation} the base fee of {}", format_gwei(base_fee))
    });
    format!("{} per gas{}", format_gwei(max_fee), comparison.unwrap_or_default())
}

fn own_fields(own: &OwnTransaction) -> Vec<Field> {
    let mut fields = vec![
        Field::text("nonce", own.nonce),
        Field::text("attempts", own.attempts),
        Field::text("registrations in it", own.batch_size),
    ];
    if let Some(cost) = own.cost {
        fields.push(Field::text("gas used", format::count(cost.gas_used)));
        fields.push(Field::text("price per gas", format_gwei(cost.effective_gas_price)));
        fields.push(Field::text("fee", format_eth(U256::from(cost.total_fee()))));
    }
    fields
}

fn identity(registration: &Registration, settings: &Settings) -> Vec<Field> {
    let request = &registration.request;
    let trace_id = request.trace.trace_id;
    let trace = settings.trace_url.as_ref().map(|url| url.of(trace_id));
    let mut fields = vec![
        Field::code("registration id", registration.id),
        Field::code("document hash", request.pair.document_hash),
        Field::text("case", &request.pair.case_id),
        Field::code("trace id", trace_id).linked(trace),
    ];
    let hash = request.pair.document_hash.to_string();
    if request.submitted_as != hash && hash.strip_prefix("0x") != Some(&request.submitted_as) {
        fields.push(Field::code("given as", &request.submitted_as));
    }
    if let Some(caller) = &request.caller {
        fields.push(Field::text("caller", caller));
    }
    if let Some(user) = &request.user_id {
        fields.push(Field::text("user id", user.as_str()));
    }
    fields.push(Field::text("revision", registration.revision));
    fields.push(Field::text("last change", format::exact_time(registration.times.updated)));
    fields
}

//! Responses as text for people.

use super::{blocked_reason, document::Document, format, progress_steps::has_reached, time};
use crate::{
    api::proto::{
        Cause, Diagnosis, EndpointStatus, Finality, GetServiceInfoResponse, Registration, State, Transaction,
        VerifyDocumentResponse, WaitFor,
    },
    registration::{CaseId, units::format_eth},
};
use console::{Color, Style};
use std::collections::HashSet;

/// The longest label. A hash of 66 characters after it ends at column 80.
const LABEL_WIDTH: usize = 11;

/// Empty if there is no value.
pub(super) fn labelled_row(label: &str, value: &str, style: &Style) -> String {
    if value.is_empty() {
        return String::new();
    }
    format!("  {} {value}\n", style.clone().dim().apply_to(format!("{label:<LABEL_WIDTH$}")))
}

pub(super) fn document_heading(document: &Document, case: &CaseId) -> String {
    match &document.file {
        Some((path, bytes)) => {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            let size = indicatif::HumanBytes(*bytes);
            format!("{name} ({size}), sha2-256 {}, case {case}", format::shorten_hash(&document.hash.to_string()))
        }
        None => format!("sha2-256 {}, case {case}", format::shorten_hash(&document.hash.to_string())),
    }
}

pub(super) fn render_registration(registration: &Registration, style: &Style) -> String {
    let none = Transaction::default();
    let transaction = registration.transaction.as_ref().unwrap_or(&none);
    let mut text =
        format!("{}\n", style.clone().fg(state_color(registration.state())).apply_to(state_name(registration.state())));
    let mut add = |label, value: &str| text.push_str(&labelled_row(label, value, style));
    add("id", &registration.id);
    add("document", &registration.document_hash);
    if registration.submitted_as != registration.document_hash {
        add("given as", &registration.submitted_as);
    }
    add("warning", &registration.warning);
    add("case", &registration.case_id);
    add("blocked", &blocked_reason::describe(&registration.blocked_reason));
    if let Some(failure) = &registration.failure {
        add("failure", &format!("{} ({})", failure.message, failure.reason));
    }
    add("transaction", &transaction.hash);
    add("block", &format_block(transaction.block_number, transaction.confirmations, registration.finality()));
    add("fee", &format_fee(transaction));
    add("explorer", &transaction.explorer_url);
    add("accepted", &registration.create_time.as_ref().map(time::format_timestamp).unwrap_or_default());
    add("trace", &registration.trace_id);
    add("user", &registration.user_id);
    if let Some(diagnosis) = registration.diagnosis.as_ref().filter(|_| registration.state() != State::Confirmed) {
        add("diagnosis", &format!("{}: {}", cause_name(diagnosis.cause()), diagnosis.explanation));
    }
    text
}

/// Of a hash in a list.
const SHORT_HASH_WIDTH: usize = 17;
const WHOLE_HASH_WIDTH: usize = 66;
/// Of the documents whose state is named in a summary.
const MAX_NAMED_DOCUMENTS: usize = 20;

/// Of the documents of one command.
pub(super) struct DocumentCounts {
    /// Registered by this command.
    new: usize,
    /// Registered by an earlier one.
    known: usize,
    /// With the same content and case as another document of the command.
    repeated: usize,
}

impl DocumentCounts {
    /// A registration that the command has made has the command's trace.
    pub(super) fn new(registrations: &[Registration], trace_id: &str) -> Self {
        let mut ids = HashSet::new();
        let (mut new, mut known, mut repeated) = (0, 0, 0);
        for registration in registrations {
            if !ids.insert(&registration.id) {
                repeated += 1;
            } else if registration.trace_id == trace_id {
                new += 1;
            } else {
                known += 1;
            }
        }
        Self { new, known, repeated }
    }
}

/// How many are in which state, and those that have failed or do not advance by name.
pub(super) fn render_documents(
    names: &[&str],
    registrations: &[Registration],
    counts: &DocumentCounts,
    until: WaitFor,
    style: &Style,
) -> String {
    let mut text = format!("{} documents: {} new", registrations.len(), counts.new);
    for (count, what) in [(counts.known, "registered before"), (counts.repeated, "with the content of another one")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text.push('\n');
    for state in [State::Confirmed, State::Included, State::Submitted, State::Queued, State::Failed] {
        let count = registrations.iter().filter(|registration| registration.state() == state).count();
        if count > 0 {
            let name = style.clone().fg(state_color(state)).apply_to(format!("{:<LABEL_WIDTH$}", state_name(state)));
            text.push_str(&format!("  {name} {count}\n"));
        }
    }
    let is_noted = |registration: &Registration| {
        let is_blocked = !registration.blocked_reason.is_empty() || registration.diagnosis.is_some();
        registration.state() == State::Failed || is_blocked && !has_reached(registration, until)
    };
    let noted: Vec<_> = names.iter().zip(registrations).filter(|(_, registration)| is_noted(registration)).collect();
    for (name, registration) in noted.iter().take(MAX_NAMED_DOCUMENTS) {
        let failure = registration.failure.as_ref().map(|failure| failure.message.as_str());
        let late = registration.diagnosis.as_ref().map(|diagnosis| diagnosis.explanation.as_str());
        let why = failure.or(late).unwrap_or_default();
        text.push_str(&format!("  {name}: {}{}", state_name(registration.state()), reason_suffix(registration)));
        text.push_str(&if why.is_empty() { "\n".to_owned() } else { format!("  {why}\n") });
    }
    if noted.len() > MAX_NAMED_DOCUMENTS {
        text.push_str(&format!("  and {} more\n", noted.len() - MAX_NAMED_DOCUMENTS));
    }
    for (name, registration) in names.iter().zip(registrations).filter(|(_, one)| !one.warning.is_empty()).take(1) {
        text.push_str(&format!("  warning     {name}: {}\n", registration.warning));
    }
    text
}

/// Above the lines of a list.
pub(super) fn list_header(wide: bool, style: &Style) -> String {
    let hash_width = if wide { WHOLE_HASH_WIDTH } else { SHORT_HASH_WIDTH };
    let columns = format!("{:<36}  {:<9}  {:<20}  {:<hash_width$}  CASE", "ID", "STATE", "ACCEPTED", "DOCUMENT");
    let more = if wide { "  TRANSACTION  USER" } else { "" };
    style.clone().dim().apply_to(format!("{columns}{more}")).to_string()
}

pub(super) fn render_list_line(registration: &Registration, wide: bool, style: &Style) -> String {
    let state_text = format!("{:<9}", state_name(registration.state()));
    let created = registration.create_time.as_ref().map(time::format_timestamp).unwrap_or_default();
    let hash = &registration.document_hash;
    let line = format!(
        "{}  {}  {created}  {}  {}",
        registration.id,
        style.clone().fg(state_color(registration.state())).apply_to(state_text),
        if wide { hash.clone() } else { format::shorten_hash(hash) },
        registration.case_id,
    );
    let more = if wide {
        let transaction = registration.transaction.as_ref().map_or("", |transaction| transaction.hash.as_str());
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        format!("  {}  {}", or_dash(transaction), or_dash(&registration.user_id))
    } else {
        String::new()
    };
    line + &more + &reason_suffix(registration)
}

/// When it changed, and to what.
pub(super) fn render_change_line(registration: &Registration, style: &Style) -> String {
    let state_text = format!("{:<9}", state_name(registration.state()));
    let changed = registration.update_time.as_ref().map(time::format_timestamp).unwrap_or_default();
    format!(
        "{changed}  {}  {}  {}  {}",
        style.clone().fg(state_color(registration.state())).apply_to(state_text),
        registration.id,
        registration.case_id,
        format::shorten_hash(&registration.document_hash),
    ) + &reason_suffix(registration)
}

fn reason_suffix(registration: &Registration) -> String {
    let failure = registration.failure.as_ref().map(|failure| failure.reason.as_str());
    let reasons = failure.into_iter().chain([registration.blocked_reason.as_str()]);
    reasons.filter(|reason| !reason.is_empty()).map(|reason| format!("  {reason}")).collect()
}

pub(super) fn render_diagnosis(diagnosis: &Diagnosis, style: &Style) -> String {
    let mut text = format!("{}\n", style.clone().yellow().apply_to(cause_name(diagnosis.cause())));
    text.push_str(&format!("  {}\n\n", diagnosis.explanation));
    let mut evidence: Vec<_> = diagnosis.evidence.iter().collect();
    evidence.sort();
    let widest = evidence.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in evidence {
        text.push_str(&format!("  {} {value}\n", style.clone().dim().apply_to(format!("{name:<widest$}"))));
    }
    text
}

pub(super) fn render_verification(response: &VerifyDocumentResponse, style: &Style) -> String {
    let (color, head) = if response.registered {
        (Color::Green, "registered on chain")
    } else {
        (Color::Red, "not registered on chain")
    };
    let mut text = format!("{}\n", style.clone().fg(color).apply_to(head));
    let mut add = |label, value: &str| text.push_str(&labelled_row(label, value, style));
    add("document", &response.document_hash);
    add("warning", &response.warning);
    add("case", &response.case_id);
    add("registrar", &response.registrar);
    add("block", &format_block(response.block_number, response.confirmations, response.finality()));
    add("block time", &response.block_time.as_ref().map(time::format_timestamp).unwrap_or_default());
    add("transaction", &response.transaction_hash);
    add("explorer", &response.explorer_url);
    add("contract", &format!("{} on chain {}", response.contract_address, response.chain_id));
    text
}

pub(super) fn render_service_info(info: &GetServiceInfoResponse, style: &Style) -> String {
    let duration = |duration: Option<prost_types::Duration>| {
        duration.and_then(|duration| duration.try_into().ok()).map(time::format_duration).unwrap_or_default()
    };
    let mut text = String::new();
    let mut add = |label, value: &str| text.push_str(&labelled_row(label, value, style));
    add("version", &info.version);
    add("commit", &info.commit);
    add("network", &format!("{} (chain {})", info.network, info.chain_id));
    add("contract", &info.contract_address);
    for signer in &info.signer_addresses {
        let known = info.signers.iter().find(|known| known.address == *signer);
        let balance = known.and_then(|known| known.balance_wei.parse().ok()).map(format_eth);
        add("signer", &balance.map_or_else(|| signer.clone(), |balance| format!("{signer} ({balance})")));
    }
    for endpoint in &info.endpoints {
        add("endpoint", &format_endpoint(endpoint));
    }
    if let Some(queued) = info.queued {
        let oldest = info.oldest_queued_time.as_ref().map(|oldest| time::elapsed_between(oldest, &time::now()));
        let oldest = oldest.map(|age| format!(", the oldest for {}", time::format_duration(age))).unwrap_or_default();
        add("queued", &format!("{queued}{oldest}"));
    }
    add("confirmed", &format!("after {}", format::format_confirmations(info.confirmations.into())));
    let reported = [("queued", info.queue_timeout), ("sent", info.confirmation_timeout)];
    let reported = reported.into_iter().filter(|(_, timeout)| timeout.is_some());
    let reported: Vec<_> =
        reported.map(|(what, timeout)| format!("{} after it is {what}", duration(timeout))).collect();
    add("late", &reported.join(", "));
    add("max wait", &duration(info.max_wait));
    text
}

fn format_endpoint(endpoint: &EndpointStatus) -> String {
    let head = endpoint.head_block.map(|block| format!(", block {block}")).unwrap_or_default();
    let error = if endpoint.error.is_empty() { String::new() } else { format!(": {}", endpoint.error) };
    format!("{} {}{head}{error}", endpoint.name, endpoint.state)
}

fn format_block(number: Option<u64>, confirmations: Option<u64>, finality: Finality) -> String {
    let Some(number) = number else { return String::new() };
    let depth = confirmations.map(|depth| format!(", {}", format::format_confirmations(depth))).unwrap_or_default();
    let finality = match finality {
        Finality::Unspecified => "",
        Finality::Unsafe => ", not yet final on Ethereum",
        Finality::Safe => ", safe on Ethereum",
        Finality::Finalized => ", final on Ethereum",
    };
    format!("{number}{depth}{finality}")
}

fn format_fee(transaction: &Transaction) -> String {
    let Ok(wei) = transaction.fee_wei.parse::<u128>() else { return String::new() };
    let share =
        if transaction.batch_size > 1 { format!(" for {} documents", transaction.batch_size) } else { String::new() };
    let digits = format!("{:018}", wei % 10_u128.pow(18));
    let fraction = digits.trim_end_matches('0');
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    format!("{}.{fraction} ETH{share}", wei / 10_u128.pow(18))
}

fn state_name(state: State) -> &'static str {
    state.as_str_name().trim_start_matches("STATE_")
}

/// In lower case, as in error metadata and Sentry.
fn cause_name(cause: Cause) -> String {
    cause.as_str_name().trim_start_matches("CAUSE_").to_lowercase()
}

fn state_color(state: State) -> Color {
    match state {
        State::Confirmed => Color::Green,
        State::Failed => Color::Red,
        State::Unspecified | State::Queued | State::Submitted | State::Included => Color::Yellow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &Style = &Style::new().force_styling(false);

    #[test]
    fn a_list_line_ends_with_the_blocked_reason() {
        let waiting = Registration { blocked_reason: "FEE_CAP".into(), case_id: "C-1".into(), ..Default::default() };
        assert!(render_list_line(&waiting, false, PLAIN).ends_with("  C-1  FEE_CAP"));
        let free = Registration { blocked_reason: String::new(), ..waiting };
        assert!(render_list_line(&free, false, PLAIN).ends_with("  C-1"));
    }

    #[test]
    fn the_header_of_a_list_is_above_its_columns() {
        let registration = Registration {
            id: "0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11".into(),
            document_hash: format!("0x{}", "7".repeat(64)),
            case_id: "C-1".into(),
            state: State::Confirmed.into(),
            create_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Default::default()
        };
        let column = |text: &str, word: &str| text.find(word).map(|byte| text[..byte].chars().count());
        for wide in [false, true] {
            let (header, line) = (list_header(wide, PLAIN), render_list_line(&registration, wide, PLAIN));
            for (title, value) in [("ID", "0198"), ("ACCEPTED", "2023-"), ("DOCUMENT", "0x77"), ("CASE", "C-1")] {
                assert_eq!(column(&header, title), column(&line, value), "{header}\n{line}");
            }
        }
    }

    #[test]
    fn wei_is_formatted_as_ether_without_losing_digits() {
        for (wei, text) in [
            ("1", "0.000000000000000001 ETH"),
            ("52000000000000", "0.000052 ETH"),
            ("1000000000000000000", "1.0 ETH"),
            ("", ""),
        ] {
            assert_eq!(format_fee(&Transaction { fee_wei: wei.into(), ..Default::default() }), text);
        }
    }

    #[test]
    fn a_hash_and_its_label_fit_a_terminal_of_80_columns() {
        let hash = format!("0x{}", "7".repeat(64));
        let text = render_registration(
            &Registration {
                id: "0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11".into(),
                document_hash: hash.clone(),
                transaction: Some(Transaction { hash, ..Default::default() }),
                blocked_reason: "INSUFFICIENT_FUNDS".into(),
                ..Default::default()
            },
            PLAIN,
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn unknown_values_take_no_line() {
        let text = render_registration(&Registration { id: "the-id".into(), ..Default::default() }, PLAIN);
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}

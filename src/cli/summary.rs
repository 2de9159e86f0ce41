//! Responses as text for people.

use super::{blocked_reason, document::Document, format, time};
use crate::{
    api::proto::{
        Cause, Diagnosis, Finality, GetServiceInfoResponse, Registration, State, Transaction, VerifyDocumentResponse,
    },
    registration::CaseId,
};
use console::{Color, Style};

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
    if let Some(diagnosis) = registration.diagnosis.as_ref().filter(|_| registration.state() != State::Confirmed) {
        add("diagnosis", &format!("{}: {}", cause_name(diagnosis.cause()), diagnosis.explanation));
    }
    text
}

pub(super) fn render_list_line(registration: &Registration, style: &Style) -> String {
    let state_text = format!("{:<9}", state_name(registration.state()));
    let created = registration.create_time.as_ref().map(time::format_timestamp).unwrap_or_default();
    format!(
        "{}  {}  {created}  {}  {}",
        registration.id,
        style.clone().fg(state_color(registration.state())).apply_to(state_text),
        format::shorten_hash(&registration.document_hash),
        registration.case_id,
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
        add("signer", signer);
    }
    add("confirmed", &format!("after {}", format::format_confirmations(info.confirmations.into())));
    add("reported", &format!("as late after {}", duration(info.confirmation_timeout)));
    add("max wait", &duration(info.max_wait));
    text
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
        assert!(render_list_line(&waiting, PLAIN).ends_with("  C-1  FEE_CAP"));
        let free = Registration { blocked_reason: String::new(), ..waiting };
        assert!(render_list_line(&free, PLAIN).ends_with("  C-1"));
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

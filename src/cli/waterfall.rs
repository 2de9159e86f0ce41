//! The phases of a registration as bars on one time scale.

use super::time::{elapsed_between, format_duration};
use crate::api::proto::{Registration, State};
use console::{Color, Style};
use prost_types::Timestamp;
use std::time::Duration;

/// Indent, label, spaces, and the duration at the end.
const NON_BAR_COLUMNS: usize = 2 + 8 + 1 + 1 + 10;
/// With fewer columns no bars are drawn.
const MIN_BAR_COLUMNS: usize = 12;

struct WaterfallPhase {
    label: &'static str,
    color: Color,
    start: Timestamp,
    /// `None` while the phase lasts.
    end: Option<Timestamp>,
}

struct TimeScale {
    origin: Timestamp,
    total: Duration,
    columns: usize,
}

/// One line per phase that has started; empty if none has. A phase that is not over ends at `now`.
pub(super) fn render(registration: &Registration, now: Timestamp, width: usize, style: &Style) -> String {
    let Some(origin) = registration.create_time else { return String::new() };
    let phases = phases(registration);
    let is_unfinished = phases.iter().any(|phase| phase.end.is_none());
    let end = match (is_unfinished, phases.last()) {
        (false, Some(WaterfallPhase { end: Some(end), .. })) => *end,
        _ => now,
    };
    let total = elapsed_between(&origin, &end);
    if phases.is_empty() {
        return String::new();
    }
    let columns = width.saturating_sub(NON_BAR_COLUMNS);
    let scale = TimeScale { origin, total, columns: if columns < MIN_BAR_COLUMNS { 0 } else { columns } };
    let mark = registration.include_time;
    let mut text = String::new();
    for phase in &phases {
        let duration = match &phase.end {
            Some(end) => format_duration(elapsed_between(&phase.start, end)),
            None => format!("{}…", format_duration(elapsed_between(&phase.start, &now))),
        };
        let mark = mark.filter(|_| phase.label == "wait");
        push_row(&mut text, phase.label, &scale.render_bar(phase, &end, mark.as_ref(), style), &duration);
    }
    let open = if is_unfinished { "…" } else { "" };
    push_row(&mut text, "total", &" ".repeat(scale.columns), &format!("{}{open}", format_duration(total)));
    if let (Some(mark), true, true) = (mark, scale.columns > 0, phases.iter().any(|phase| phase.label == "wait")) {
        let note = format!("◆ in a block after {}", format_duration(elapsed_between(&origin, &mark)));
        text.push_str(&format!("  {:8} {}\n", "", style.clone().dim().apply_to(note)));
    }
    text
}

fn push_row(text: &mut String, label: &str, bar: &str, duration: &str) {
    let gap = if bar.is_empty() { "" } else { " " };
    text.push_str(&format!("  {label:8} {bar}{gap}{duration:>10}\n"));
}

fn phases(registration: &Registration) -> Vec<WaterfallPhase> {
    let transaction = registration.transaction.as_ref();
    let prepared = transaction.and_then(|transaction| transaction.prepare_time);
    let signed = transaction.and_then(|transaction| transaction.sign_time);
    let submitted = registration.submit_time;
    let failed = registration.fail_time.filter(|_| registration.state() == State::Failed);
    let confirmed = registration.confirm_time;
    // An unknown time does not leave a phase open once a later one is known: a pair that was found on chain was never
    // prepared, so it is queued until it is confirmed.
    let sent = submitted.or(confirmed);
    let steps = [
        ("queue", Color::Blue, registration.create_time, prepared.or(sent)),
        ("prepare", Color::Cyan, prepared, signed.or(sent)),
        ("send", Color::Yellow, signed, sent),
        ("wait", Color::Green, submitted, confirmed),
    ];
    steps
        .into_iter()
        .filter_map(|(label, color, start, end)| {
            let start = start?;
            let color = if end.is_none() && failed.is_some() { Color::Red } else { color };
            Some(WaterfallPhase { label, color, start, end: end.or(failed) })
        })
        .collect()
}

impl TimeScale {
    /// With a mark for the block. Every phase has at least one column.
    fn render_bar(&self, phase: &WaterfallPhase, last: &Timestamp, mark: Option<&Timestamp>, style: &Style) -> String {
        if self.columns == 0 {
            return String::new();
        }
        let from = self.column_at(&phase.start).min(self.columns - 1);
        let until = self.column_at(phase.end.as_ref().unwrap_or(last)).clamp(from + 1, self.columns);
        let mark = mark.map(|mark| self.column_at(mark).clamp(from, until - 1));
        let fill = if phase.end.is_some() { '█' } else { '░' };
        let piece = |from: usize, until: usize| {
            style.clone().fg(phase.color).apply_to(fill.to_string().repeat(until - from)).to_string()
        };
        let bar = match mark {
            Some(mark) => {
                let before = if mark > from { piece(from, mark) } else { String::new() };
                let after = if until > mark + 1 { piece(mark + 1, until) } else { String::new() };
                format!("{before}{}{after}", style.clone().bold().apply_to('◆'))
            }
            None => piece(from, until),
        };
        format!("{}{bar}{}", " ".repeat(from), " ".repeat(self.columns - until))
    }

    fn column_at(&self, time: &Timestamp) -> usize {
        let share = elapsed_between(&self.origin, time).as_secs_f64() / self.total.as_secs_f64().max(1e-9);
        // At most `columns`; negative shares do not occur.
        (share.min(1.0) * self.columns as f64).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::Transaction;

    const PLAIN: &Style = &Style::new().force_styling(false);

    fn at(millis: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds: 1_700_000_000 + millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 })
    }

    fn confirmed() -> Registration {
        Registration {
            state: State::Confirmed.into(),
            create_time: at(0),
            submit_time: at(400),
            include_time: at(1_200),
            confirm_time: at(2_000),
            update_time: at(2_000),
            transaction: Some(Transaction { prepare_time: at(100), sign_time: at(200), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn the_phases_follow_each_other_on_one_scale() {
        let text = render(&confirmed(), at(3_000).unwrap(), NON_BAR_COLUMNS + 20, PLAIN);
        let expected = [
            "  queue    █                        100 ms",
            "  prepare   █                       100 ms",
            "  send       ██                     200 ms",
            "  wait         ████████◆███████     1.60 s",
            "  total                             2.00 s",
            "           ◆ in a block after 1.20 s",
            "",
        ];
        assert_eq!(text, expected.join("\n"));
    }

    #[test]
    fn every_width_works_and_no_line_is_wider_than_the_terminal() {
        for width in [0, 1, 20, 33, 34, 40, 80, 120, 500] {
            let text = render(&confirmed(), at(3_000).unwrap(), width, PLAIN);
            assert!(text.contains("1.60 s"));
            for line in text.lines().filter(|line| !line.contains("block")) {
                assert!(line.chars().count() <= width.max(NON_BAR_COLUMNS), "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn an_unfinished_phase_stays_open_and_a_failed_one_ends() {
        let waiting = Registration { confirm_time: None, include_time: None, ..confirmed() };
        let text = render(&waiting, at(3_000).unwrap(), 60, PLAIN);
        assert!(
            text.lines().any(|line| line.contains("wait") && line.contains('░') && line.ends_with("2.60 s…")),
            "{text}"
        );
        let failed = Registration { state: State::Failed.into(), fail_time: at(2_000), ..waiting };
        assert!(render(&failed, at(3_000).unwrap(), 60, PLAIN).contains("1.60 s"));
    }

    #[test]
    fn a_pair_found_on_chain_has_only_a_queue_phase() {
        let found = Registration { transaction: None, submit_time: None, include_time: None, ..confirmed() };
        assert_eq!(render(&found, at(3_000).unwrap(), 60, PLAIN).lines().count(), 2);
        assert_eq!(render(&Registration::default(), at(3_000).unwrap(), 60, PLAIN), "");
    }
}

//! Where the time of one registration went, as bars on one scale.

use super::{
    output::{Color, Style},
    time,
};
use crate::api::proto::{Registration, State};
use prost_types::Timestamp;
use std::time::Duration;

/// Indent, label, spaces, and the duration at the end.
const NON_BAR_COLUMNS: usize = 2 + 8 + 1 + 1 + 10;
/// With fewer columns a bar says nothing.
const MIN_BAR_COLUMNS: usize = 12;

struct WaterfallPhase {
    label: &'static str,
    color: Color,
    start: Timestamp,
    /// `None` while it lasts.
    end: Option<Timestamp>,
}

struct TimeScale {
    origin: Timestamp,
    total: Duration,
    columns: usize,
}

/// The waterfall, a line for each phase that has begun; empty when none has. What is under way lasts until `now`.
pub(super) fn render(registration: &Registration, now: Timestamp, width: usize, paint: Style) -> String {
    let Some(origin) = registration.create_time else { return String::new() };
    let phases = phases(registration);
    let under_way = phases.iter().any(|phase| phase.end.is_none());
    let end = match (under_way, phases.last()) {
        (false, Some(WaterfallPhase { end: Some(end), .. })) => *end,
        _ => now,
    };
    let total = time::elapsed_between(&origin, &end);
    if phases.is_empty() {
        return String::new();
    }
    let cells = width.saturating_sub(NON_BAR_COLUMNS);
    let scale = TimeScale { origin, total, columns: if cells < MIN_BAR_COLUMNS { 0 } else { cells } };
    let mark = registration.include_time;
    let mut text = String::new();
    for phase in &phases {
        let duration = match &phase.end {
            Some(end) => time::format_duration(time::elapsed_between(&phase.start, end)),
            None => format!("{}…", time::format_duration(time::elapsed_between(&phase.start, &now))),
        };
        let mark = mark.filter(|_| phase.label == "wait");
        push_row(&mut text, phase.label, &scale.render_bar(phase, &end, mark.as_ref(), paint), &duration);
    }
    let open = if under_way { "…" } else { "" };
    push_row(&mut text, "total", &" ".repeat(scale.columns), &format!("{}{open}", time::format_duration(total)));
    if let (Some(mark), true, true) = (mark, scale.columns > 0, phases.iter().any(|phase| phase.label == "wait")) {
        let note = format!("◆ in a block after {}", time::format_duration(time::elapsed_between(&origin, &mark)));
        text.push_str(&format!("  {:8} {}\n", "", paint.apply(Color::Dim, note)));
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
    // A time that is not known does not leave a phase open once a later one is: a pair that was found on chain was never
    // prepared, so that its queue lasts until it is confirmed.
    let sent = submitted.or(confirmed);
    let steps = [
        ("queue", Color::Blue, registration.create_time, prepared.or(sent)),
        ("prepare", Color::Cyan, prepared, signed.or(sent)),
        ("send", Color::Yellow, signed, sent),
        ("wait", Color::Green, submitted, confirmed),
    ];
    steps
        .into_iter()
        .filter_map(|(label, colour, start, end)| {
            let start = start?;
            let colour = if end.is_none() && failed.is_some() { Color::Red } else { colour };
            Some(WaterfallPhase { label, color: colour, start, end: end.or(failed) })
        })
        .collect()
}

impl TimeScale {
    /// The phase's bar, with a mark for the block in it. Every phase gets a cell, however short it was.
    fn render_bar(&self, phase: &WaterfallPhase, last: &Timestamp, mark: Option<&Timestamp>, paint: Style) -> String {
        if self.columns == 0 {
            return String::new();
        }
        let from = self.column_at(&phase.start).min(self.columns - 1);
        let until = self.column_at(phase.end.as_ref().unwrap_or(last)).clamp(from + 1, self.columns);
        let mark = mark.map(|mark| self.column_at(mark).clamp(from, until - 1));
        let fill = if phase.end.is_some() { '█' } else { '░' };
        let piece = |from: usize, until: usize| paint.apply(phase.color, fill.to_string().repeat(until - from));
        let bar = match mark {
            Some(mark) => {
                let before = if mark > from { piece(from, mark) } else { String::new() };
                let after = if until > mark + 1 { piece(mark + 1, until) } else { String::new() };
                format!("{before}{}{after}", paint.apply(Color::Bold, '◆'))
            }
            None => piece(from, until),
        };
        format!("{}{bar}{}", " ".repeat(from), " ".repeat(self.columns - until))
    }

    /// The cell that begins nearest to this moment.
    fn column_at(&self, moment: &Timestamp) -> usize {
        let share = time::elapsed_between(&self.origin, moment).as_secs_f64() / self.total.as_secs_f64().max(1e-9);
        // At most `cells`, so it fits; negative shares do not occur.
        (share.min(1.0) * self.columns as f64).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::Transaction;

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
        let text = render(&confirmed(), at(3_000).unwrap(), NON_BAR_COLUMNS + 20, Style::PLAIN);
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
    fn no_width_breaks_it_and_no_line_is_wider_than_the_terminal() {
        for width in [0, 1, 20, 33, 34, 40, 80, 120, 500] {
            let text = render(&confirmed(), at(3_000).unwrap(), width, Style::PLAIN);
            assert!(text.contains("1.60 s"));
            for line in text.lines().filter(|line| !line.contains("block")) {
                assert!(line.chars().count() <= width.max(NON_BAR_COLUMNS), "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn what_is_under_way_stays_open_and_what_failed_ends() {
        let waiting = Registration { confirm_time: None, include_time: None, ..confirmed() };
        let text = render(&waiting, at(3_000).unwrap(), 60, Style::PLAIN);
        assert!(
            text.lines().any(|line| line.contains("wait") && line.contains('░') && line.ends_with("2.60 s…")),
            "{text}"
        );
        let failed = Registration { state: State::Failed.into(), fail_time: at(2_000), ..waiting };
        assert!(render(&failed, at(3_000).unwrap(), 60, Style::PLAIN).contains("1.60 s"));
    }

    #[test]
    fn a_pair_found_on_chain_has_a_queue_alone() {
        let found = Registration { transaction: None, submit_time: None, include_time: None, ..confirmed() };
        assert_eq!(render(&found, at(3_000).unwrap(), 60, Style::PLAIN).lines().count(), 2);
        assert_eq!(render(&Registration::default(), at(3_000).unwrap(), 60, Style::PLAIN), "");
    }
}

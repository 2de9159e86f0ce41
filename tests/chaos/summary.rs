//! The summary of a run.

use super::{
    Outcome,
    fault_log::FaultLog,
    faults::FaultHistory,
    findings::Findings,
    ledger::LedgerEntries,
    report::{Bar, Report},
    stall::{Lifetime, Recovery, longest_gap, recovery},
};
use std::{ops::Range, time::Duration};

/// Limit for the time without a confirmation after a start.
const MAX_STALL: Duration = Duration::from_secs(5);
/// Findings of one kind that are printed in the table; the fault log has all of them.
const MAX_NOTES_PER_KIND: usize = 5;

pub struct Summary {
    pub kills: usize,
    /// From the first call to the last answer.
    pub run: Range<Duration>,
    pub findings: Findings,
    pub entries: LedgerEntries,
    pub history: FaultHistory,
    pub lifetimes: Vec<Lifetime>,
    pub panics: Vec<String>,
}

impl Summary {
    /// The table and the list of violations.
    pub fn into_outcome(self, fault_log: &FaultLog) -> Outcome {
        let mut report = Report::default();
        report.figure("time under load", (self.run.end - self.run.start).as_secs_f64(), "s");
        report.figure("kills", self.kills as f64, "");
        for (kind, count) in &self.history.counts {
            report.figure(*kind, *count as f64, "");
        }
        report.figure("registrations accepted", self.entries.accepted() as f64, "");
        report.figure("transactions that registered them", self.findings.transactions as f64, "");
        report.figure("calls ended by a kill", self.entries.disconnected as f64, "");
        report.figure("streams of changes opened", self.findings.feed_streams as f64, "");
        let mut findings = Vec::new();
        for (name, found) in self.violations() {
            report.bar(name, found.len() as f64, "", Bar::AtMost(0.0));
            found.iter().take(MAX_NOTES_PER_KIND).for_each(|finding| report.note(format!("{name}: {finding}")));
            findings.extend(found.iter().map(|finding| format!("{name}: {finding}")));
        }
        findings.iter().for_each(|finding| fault_log.record(finding));
        self.stalls(&mut report, fault_log);
        if !self.findings.missing_blocks.is_empty() {
            report.note(format!(
                "the node lost its blocks {:?}, which may have caused the findings",
                self.findings.missing_blocks
            ));
        }
        for (reason, count) in &self.entries.errors {
            report.note(format!("{count} calls ended with {reason}"));
        }
        Outcome { report, findings }
    }

    fn violations(&self) -> [(&'static str, &Vec<String>); 12] {
        let findings = &self.findings;
        [
            ("lost", &findings.lost),
            ("duplicated", &findings.duplicated),
            ("stuck", &findings.stuck),
            ("failed", &findings.failed),
            ("never requested", &findings.unrequested),
            ("reported differently than on chain", &findings.misreported),
            ("missing from the change feed", &findings.unseen),
            ("nonces signed for two transactions", &findings.reused_nonces),
            ("sent again although on chain", &findings.redundant_sends),
            ("redirects followed", &findings.followed_redirects),
            ("requests without an answer", &self.entries.unanswered),
            ("panics", &self.panics),
        ]
    }

    fn stalls(&self, report: &mut Report, fault_log: &FaultLog) {
        let times = self.entries.confirm_times.iter().chain(&self.findings.confirm_times);
        let mut confirmed: Vec<Duration> = times.copied().collect();
        confirmed.sort_unstable();
        let (mut well, mut after, mut short) = (Duration::ZERO, Duration::ZERO, 0);
        for lifetime in &self.lifetimes {
            let judged = recovery(lifetime, &confirmed, &self.history.unhealthy, MAX_STALL);
            fault_log.record(format_args!("process from {:.3?} to {:.3?}: {judged:?}", lifetime.start, lifetime.end));
            match judged {
                Recovery::Healthy(took) => well = well.max(took),
                Recovery::AfterFault(took) => after = after.max(took),
                Recovery::TooShort => short += 1,
            }
        }
        report.bar("longest stall after a start", well.as_secs_f64(), "s", Bar::AtMost(MAX_STALL.as_secs_f64()));
        let name = "longest stall after a start, since the end of the last fault";
        report.bar(name, after.as_secs_f64(), "s", Bar::AtMost(MAX_STALL.as_secs_f64()));
        report.figure("processes killed too soon to measure", f64::from(short), "");
        let gap = longest_gap(&self.run, &confirmed, &self.history.unhealthy);
        report.figure("longest time without a confirmation, chain usable", gap.as_secs_f64(), "s");
        report.figure("longest time from accepted to confirmed", self.findings.slowest.as_secs_f64(), "s");
        report.figure("time until all was final", self.findings.quiesced_after.as_secs_f64(), "s");
    }
}

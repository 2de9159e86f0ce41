//! The end of a run: what was seen, as a table.

use super::{
    Outcome,
    chronicle::Chronicle,
    findings::Findings,
    ledger::Kept,
    report::{Bar, Report},
    stall::{Life, Recovery, longest_gap, recovery},
    trouble::Weather,
};
use std::{ops::Range, time::Duration};

/// The bar for a stall after a start.
const STALL: Duration = Duration::from_secs(5);
/// How many findings of a kind are told in full.
const TOLD: usize = 5;

/// Everything that was seen.
pub struct End {
    /// How often a process was killed.
    pub kills: usize,
    /// From the first call to the last one's answer.
    pub run: Range<Duration>,
    /// What the audit found.
    pub findings: Findings,
    /// What callers were told.
    pub kept: Kept,
    /// What the chain has been through.
    pub weather: Weather,
    /// Every process.
    pub lives: Vec<Life>,
    /// Every panic.
    pub panics: Vec<String>,
}

impl End {
    /// The table, and what must not be.
    pub fn conclude(self, chronicle: &Chronicle) -> Outcome {
        let mut report = Report::default();
        report.figure("time under load", (self.run.end - self.run.start).as_secs_f64(), "s");
        report.figure("kills", self.kills as f64, "");
        for (kind, count) in &self.weather.counts {
            report.figure(*kind, *count as f64, "");
        }
        report.figure("registrations accepted", self.kept.accepted() as f64, "");
        report.figure("transactions that registered them", self.findings.transactions as f64, "");
        report.figure("calls that a kill broke off", self.kept.broken_off as f64, "");
        let mut findings = Vec::new();
        for (name, found) in self.must_not_be() {
            report.bar(name, found.len() as f64, "", Bar::AtMost(0.0));
            found.iter().take(TOLD).for_each(|finding| report.note(format!("{name}: {finding}")));
            findings.extend(found.iter().map(|finding| format!("{name}: {finding}")));
        }
        findings.iter().for_each(|finding| chronicle.tell(finding));
        self.stalls(&mut report, chronicle);
        if !self.findings.holes.is_empty() {
            report.note(format!(
                "the node itself has no blocks {:?}: what is found may be its fault",
                self.findings.holes
            ));
        }
        for (reason, count) in &self.kept.refusals {
            report.note(format!("{count} calls ended with {reason}"));
        }
        Outcome { report, findings }
    }

    fn must_not_be(&self) -> [(&'static str, &Vec<String>); 10] {
        let findings = &self.findings;
        [
            ("lost", &findings.lost),
            ("duplicated", &findings.duplicated),
            ("stuck", &findings.stuck),
            ("failed", &findings.failed),
            ("there, and nobody asked", &findings.unasked),
            ("told otherwise than the chain has it", &findings.misreported),
            ("nonces signed for two different things", &findings.reused_nonces),
            ("sent again although it was on the chain", &findings.in_vain),
            ("requests without an answer", &self.kept.unanswered),
            ("panics", &self.panics),
        ]
    }

    fn stalls(&self, report: &mut Report, chronicle: &Chronicle) {
        let times = self.kept.confirm_times.iter().chain(&self.findings.confirm_times);
        let mut confirmed: Vec<Duration> = times.copied().collect();
        confirmed.sort_unstable();
        let (mut well, mut after, mut short) = (Duration::ZERO, Duration::ZERO, 0);
        for life in &self.lives {
            let judged = recovery(life, &confirmed, &self.weather.unwell, STALL);
            chronicle.tell(format_args!("the process of {:.3?} to {:.3?}: {judged:?}", life.start, life.end));
            match judged {
                Recovery::Well(took) => well = well.max(took),
                Recovery::AfterTrouble(took) => after = after.max(took),
                Recovery::CutShort => short += 1,
            }
        }
        report.bar("longest stall after a start", well.as_secs_f64(), "s", Bar::AtMost(STALL.as_secs_f64()));
        let name = "the same, from when the chain was well again";
        report.bar(name, after.as_secs_f64(), "s", Bar::AtMost(STALL.as_secs_f64()));
        report.figure("processes killed too soon to tell", f64::from(short), "");
        let gap = longest_gap(&self.run, &confirmed, &self.weather.unwell);
        report.figure("longest time without a confirmation, the chain being well", gap.as_secs_f64(), "s");
        report.figure("longest from accepted to confirmed", self.findings.slowest.as_secs_f64(), "s");
        report.figure("all was final after", self.findings.quiet_after.as_secs_f64(), "s");
    }
}

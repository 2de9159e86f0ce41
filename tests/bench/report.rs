//! The table of measurements, with the limit of each and whether it passes.

use console::{Alignment, pad_str};
use serde_json::{Value, json};
use std::fmt;

#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

struct Row {
    name: String,
    measured: f64,
    unit: &'static str,
    /// The least and the greatest of the rounds.
    spread: Option<(f64, f64)>,
    bar: Option<Bar>,
}

/// The limit of a measurement.
#[derive(Clone, Copy)]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    fn value(self) -> f64 {
        let (Self::AtLeast(value) | Self::AtMost(value)) = self;
        value
    }

    fn passes(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(min) => measured >= min,
            Self::AtMost(max) => measured <= max,
        }
    }
}

impl Row {
    fn passes(&self) -> Option<bool> {
        self.bar.map(|bar| bar.passes(self.measured))
    }

    /// The measurement as a share of its limit; `None` for a limit of zero.
    fn ratio(&self) -> Option<f64> {
        self.bar.map(Bar::value).filter(|bar| *bar != 0.0).map(|bar| self.measured / bar)
    }
}

impl Report {
    /// Adds a measurement with a limit.
    pub fn bar(&mut self, name: impl Into<String>, measured: f64, unit: &'static str, bar: Bar) {
        self.add(Row { name: name.into(), measured, unit, spread: None, bar: Some(bar) });
    }

    /// Adds the median of the rounds, with their spread.
    pub fn median(&mut self, name: impl Into<String>, rounds: &[f64], unit: &'static str, bar: Option<Bar>) {
        let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread = Some((least, greatest));
        self.add(Row { name: name.into(), measured: median(rounds), unit, spread, bar });
    }

    /// Adds a measurement without a limit.
    pub fn figure(&mut self, name: impl Into<String>, measured: f64, unit: &'static str) {
        self.add(Row { name: name.into(), measured, unit, spread: None, bar: None });
    }

    /// Prints the row at once, so that a run that is interrupted still has shown what it measured.
    fn add(&mut self, row: Row) {
        let [name, measured, bar, _, verdict] = cells(&row);
        progress(format!("{name}: {measured}  {bar}  {verdict}").trim_end());
        self.rows.push(row);
    }

    /// Adds a line below the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether every limit is met.
    pub fn passes(&self) -> bool {
        self.rows.iter().all(|row| row.passes() != Some(false))
    }

    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let (min, max) = match row.bar {
                Some(Bar::AtLeast(min)) => (Some(min), None),
                Some(Bar::AtMost(max)) => (None, Some(max)),
                None => (None, None),
            };
            json!({ "name": row.name, "measured": row.measured, "unit": row.unit,
                "least": row.spread.map(|(least, _)| least), "greatest": row.spread.map(|(_, greatest)| greatest),
                "at_least": min, "at_most": max,
                "ratio": row.ratio(), "pass": row.passes() })
        };
        json!({ "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "notes": self.notes, "pass": self.passes() })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = ["", "measured", "bar", "of bar", ""].map(str::to_owned);
        let lines: Vec<[String; 5]> = [heading].into_iter().chain(self.rows.iter().map(cells)).collect();
        let widths: [usize; 5] =
            std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0));
        for line in &lines {
            let padded: Vec<_> = line
                .iter()
                .zip(widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    let side = if (1..4).contains(&column) { Alignment::Right } else { Alignment::Left };
                    pad_str(cell, width, side, None)
                })
                .collect();
            writeln!(f, "{}", padded.join("  ").trim_end())?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

fn cells(row: &Row) -> [String; 5] {
    let bar = match row.bar {
        Some(Bar::AtLeast(min)) => format!("at least {}", number(min)),
        Some(Bar::AtMost(max)) => format!("at most {}", number(max)),
        None => String::new(),
    };
    let ratio = row.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    let verdict = match row.passes() {
        Some(true) => "pass",
        Some(false) => "MISS",
        None => "",
    };
    let spread = row.spread.map(|(least, greatest)| format!("({} to {})", number(least), number(greatest)));
    let cell = [number(row.measured), row.unit.to_owned(), spread.unwrap_or_default()];
    let measured = cell.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ");
    [row.name.clone(), measured, bar, ratio, verdict.to_owned()]
}

/// No decimals from 100 on and for whole numbers, two from 1 on, three below.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Nearest-rank percentile of sorted samples; zero without samples.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// The middle value; zero without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        even if even.is_multiple_of(2) => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
        _ => percentile(&sorted, 0.5),
    }
}

/// The values in one line.
pub fn listed(values: &[f64], digits: usize) -> String {
    values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(", ")
}

/// Prints a progress line to standard error.
pub fn progress(what: impl fmt::Display) {
    eprintln!("bench: {what}");
}

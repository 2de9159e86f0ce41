//! Small plots as SVG paths, and what a screen reader says instead.

use std::fmt::Write;

/// Of the view box; the page stretches it.
pub(super) const WIDTH: f64 = 240.0;
pub(super) const HEIGHT: f64 = 40.0;
/// A line at the top or bottom edge is as thick as elsewhere.
const MARGIN: f64 = 2.0;

/// The paths of one plot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plot {
    pub(super) line: String,
    /// Below the line.
    pub(super) area: String,
    pub(super) label: String,
}

impl Plot {
    /// Values at equal distances, oldest first, from zero to the largest. A value that is absent interrupts the line.
    pub(super) fn new(values: &[Option<f64>], label: String) -> Self {
        let largest = values.iter().flatten().copied().fold(0.0, f64::max);
        let step = WIDTH / (values.len().max(2) - 1) as f64;
        let y = |value: f64| {
            let share = if largest > 0.0 { value / largest } else { 0.0 };
            HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN)
        };
        let mut plot = Self { label, ..Self::default() };
        for (start, run) in runs(values) {
            let x = |index: usize| (start + index) as f64 * step;
            let points: Vec<_> = run.iter().enumerate().map(|(index, value)| (x(index), y(*value))).collect();
            let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
            // A single value is a short dash.
            let last = if points.len() == 1 { ((last.0 + step).min(WIDTH), last.1) } else { *last };
            let mut line = String::new();
            for (x, y) in points.iter().skip(1).chain([&last]) {
                // Writing to a string cannot fail.
                let _ = write!(line, "L{x:.1} {y:.1}");
            }
            let _ = write!(plot.line, "M{:.1} {:.1}{line}", first.0, first.1);
            let _ = write!(
                plot.area,
                "M{:.1} {HEIGHT}L{:.1} {:.1}{line}L{:.1} {HEIGHT}Z",
                first.0, first.0, first.1, last.0
            );
        }
        plot
    }
}

/// The values without gaps, each run with the index of its first.
fn runs(values: &[Option<f64>]) -> Vec<(usize, Vec<f64>)> {
    let mut runs: Vec<(usize, Vec<f64>)> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        match runs.last_mut() {
            Some((start, run)) if *start + run.len() == index => run.push(*value),
            Some(_) | None => runs.push((index, vec![*value])),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[Option<f64>]) -> String {
        Plot::new(values, String::new()).line
    }

    #[test]
    fn the_largest_value_is_at_the_top_and_zero_at_the_bottom() {
        assert_eq!(line(&[Some(0.0), Some(4.0), Some(2.0)]), "M0.0 38.0L120.0 2.0L240.0 20.0L240.0 20.0");
        assert_eq!(line(&[Some(0.0), Some(0.0)]), "M0.0 38.0L240.0 38.0L240.0 38.0");
    }

    #[test]
    fn an_absent_value_interrupts_the_line_and_one_alone_is_a_dash() {
        assert_eq!(line(&[Some(1.0), None, Some(1.0)]), "M0.0 2.0L120.0 2.0M240.0 2.0L240.0 2.0");
        assert_eq!(Plot::new(&[], "nothing".to_owned()), Plot { label: "nothing".to_owned(), ..Plot::default() });
        assert_eq!(line(&[None, None]), "");
    }
}

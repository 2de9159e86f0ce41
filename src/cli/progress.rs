//! Steps of a registration as they happen, above a spinner on standard error.

use super::{
    output::{Output, print_line},
    progress_steps::{ProgressLine, StepTracker},
};
use crate::api::proto::Registration;
use console::Style;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

pub(super) struct ProgressView {
    tracker: StepTracker,
    /// `None` unless standard error is a terminal.
    spinner: Option<ProgressBar>,
    style: Style,
    prints_lines: bool,
    last_shown: Option<Registration>,
}

impl ProgressView {
    /// Without a terminal, `always` prints plain lines on standard output.
    pub(super) fn new(output: &Output, always: bool) -> Self {
        let spinner = output.shows_progress.then(|| {
            let style = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let prints_lines = always && spinner.is_none() && !output.json;
        Self {
            tracker: StepTracker::new(),
            spinner,
            style: output.stderr_style.clone(),
            prints_lines,
            last_shown: None,
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.spinner.is_some() || self.prints_lines
    }

    pub(super) fn last_shown(&self) -> Option<&Registration> {
        self.last_shown.as_ref()
    }

    pub(super) fn show(&mut self, registration: &Registration) {
        self.last_shown = Some(registration.clone());
        for ProgressLine { symbol, color, text } in self.tracker.update(registration) {
            match &self.spinner {
                Some(spinner) => spinner.println(format!("  {} {text}", self.style.clone().fg(color).apply_to(symbol))),
                None if self.prints_lines => print_line(&format!("  {symbol} {text}")),
                None => {}
            }
        }
        if let Some(spinner) = &self.spinner {
            spinner.set_message(self.tracker.waiting_message());
        }
    }
}

impl Drop for ProgressView {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

//! Stages as they pass, above a spinner, on standard error.

use super::{
    output::{Output, Style, print_line},
    progress_steps::{ProgressLine, StepTracker},
};
use crate::api::proto::Registration;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// What is shown while a registration moves.
pub(super) struct ProgressView {
    tracker: StepTracker,
    /// `None` where nobody watches.
    spinner: Option<ProgressBar>,
    style: Style,
    prints_lines: bool,
    last_shown: Option<Registration>,
}

impl ProgressView {
    /// Shows stages on a terminal; elsewhere only when `always`, as plain lines on standard output.
    pub(super) fn new(screen: &Output, always: bool) -> Self {
        let spinner = screen.shows_progress.then(|| {
            let style = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let plain = always && spinner.is_none() && !screen.json;
        Self { tracker: StepTracker::new(), spinner, style: screen.stderr_style, prints_lines: plain, last_shown: None }
    }

    /// Whether anybody watches.
    pub(super) fn is_enabled(&self) -> bool {
        self.spinner.is_some() || self.prints_lines
    }

    /// What was shown last.
    pub(super) fn last_shown(&self) -> Option<&Registration> {
        self.last_shown.as_ref()
    }

    /// Shows what is new.
    pub(super) fn show(&mut self, registration: &Registration) {
        self.last_shown = Some(registration.clone());
        for ProgressLine { symbol: sign, color: colour, text } in self.tracker.update(registration) {
            match &self.spinner {
                Some(spinner) => spinner.println(format!("  {} {text}", self.style.apply(colour, sign))),
                None if self.prints_lines => print_line(&format!("  {sign} {text}")),
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

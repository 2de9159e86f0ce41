//! Stages as they pass, above a spinner, on standard error.

use super::{
    screen::{Paint, Screen, say_line},
    stages::{Line, Stages},
};
use crate::api::proto::Registration;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// What is shown while a registration moves.
pub(super) struct Live {
    stages: Stages,
    /// `None` where nobody watches.
    spinner: Option<ProgressBar>,
    paint: Paint,
    plain: bool,
    last: Option<Registration>,
}

impl Live {
    /// Shows stages on a terminal; elsewhere only when `always`, as plain lines on standard output.
    pub(super) fn new(screen: &Screen, always: bool) -> Self {
        let spinner = screen.live.then(|| {
            let style = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let plain = always && spinner.is_none() && !screen.json;
        Self { stages: Stages::new(), spinner, paint: screen.err, plain, last: None }
    }

    /// Whether anybody watches.
    pub(super) fn is_shown(&self) -> bool {
        self.spinner.is_some() || self.plain
    }

    /// What was shown last.
    pub(super) fn last(&self) -> Option<&Registration> {
        self.last.as_ref()
    }

    /// Shows what is new.
    pub(super) fn show(&mut self, registration: &Registration) {
        self.last = Some(registration.clone());
        for Line { sign, colour, text } in self.stages.next(registration) {
            match &self.spinner {
                Some(spinner) => spinner.println(format!("  {} {text}", self.paint.paint(colour, sign))),
                None if self.plain => say_line(&format!("  {sign} {text}")),
                None => {}
            }
        }
        if let Some(spinner) = &self.spinner {
            spinner.set_message(self.stages.awaited());
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

//! The form for the token of an operator, where the page is reached from other machines.

use super::page::{html, respond};
use askama::Template;
use axum::{http::StatusCode, response::Response};

/// The form, and why it is shown again.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(crate) struct SignIn {
    /// The path of the page to show afterwards.
    pub(crate) next: String,
    pub(crate) problem: Option<&'static str>,
}

impl SignIn {
    pub(crate) fn respond(&self, status: StatusCode) -> Response {
        html(status, self)
    }
}

/// A sentence for whoever cannot be shown a page.
pub(crate) fn refused(status: StatusCode, text: &'static str) -> Response {
    respond(status, "text/plain; charset=utf-8", text)
}

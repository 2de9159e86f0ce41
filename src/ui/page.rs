//! What every page has: the head, the search form, and how it is answered.

use super::format;
use crate::{pipeline::Registrar, registration::Timestamp};
use askama::Template;
use axum::{
    body::Body,
    http::{
        HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::Response,
};

/// Nothing but the page's own files: no inline script or style, no other site, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The head of a page.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) network: String,
    pub(super) contract: String,
    pub(super) version: &'static str,
    /// When its content was read.
    pub(super) read_at: String,
    pub(super) read_at_rfc3339: String,
    /// In the search field.
    pub(super) query: String,
    /// Whether it is refreshed while it is visible.
    pub(super) is_live: bool,
}

impl Page {
    pub(super) fn new(registrar: &Registrar, at: Timestamp) -> Self {
        Self {
            network: registrar.network().title.clone(),
            contract: registrar.contract().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            read_at: format::time(at),
            read_at_rfc3339: format::rfc3339(at),
            query: String::new(),
            is_live: false,
        }
    }

    pub(super) fn live(self, is_live: bool) -> Self {
        Self { is_live, ..self }
    }

    pub(super) fn with_query(self, query: &str) -> Self {
        Self { query: query.to_owned(), ..self }
    }
}

/// A sentence instead of content.
#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct MessagePage {
    pub(super) page: Page,
    pub(super) title: String,
    pub(super) text: String,
}

pub(super) fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => respond(status, "text/html; charset=utf-8", text),
        Err(error) => {
            tracing::error!(error = %error, "failed to render a page");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the page cannot be rendered\n")
        }
    }
}

pub(super) fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds the headers of every answer.
pub(crate) async fn with_headers(mut response: Response) -> Response {
    let headers: [(HeaderName, &'static str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

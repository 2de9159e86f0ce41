//! The addresses of the pages.

use super::{
    certificate,
    lookup::{Lookup, LookupError, QUERY_TIMEOUT},
    overview::OverviewPage,
    page::{MessagePage, Page, html, respond},
    refresh::Streams,
    registration::{Found, RegistrationPage},
    search::{self, Outcome},
    settings::Settings,
};
use crate::{
    auth::Authenticator,
    clock,
    pipeline::Registrar,
    registration::{Finality, RegistrationId},
};
use axum::{
    Extension, Router,
    extract::{Path, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use std::sync::Arc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const STYLE: &str = include_str!("assets/app.css");
const SCRIPT: &str = include_str!("assets/app.js");
const ICON: &str = include_str!("assets/icon.svg");
const DATABASE_LATE: &str = "The database did not answer in time.";

/// What the pages are rendered from.
#[derive(Clone)]
pub(crate) struct Ui {
    registrar: Registrar,
    settings: Arc<Settings>,
    /// Of the callers of the gRPC port.
    authenticator: Authenticator,
    streams: Streams,
    lookup: Lookup,
    stop: CancellationToken,
}

/// An extension of requests: when the streams of their connection are to end.
#[derive(Clone)]
pub(crate) struct StreamEnd(pub(crate) CancellationToken);

impl Ui {
    pub(crate) fn new(
        registrar: Registrar,
        settings: Settings,
        authenticator: Authenticator,
        stop: CancellationToken,
    ) -> Self {
        let (settings, streams, lookup) = (Arc::new(settings), Streams::new(), Lookup::new());
        Self { registrar, settings, authenticator, streams, lookup, stop }
    }

    /// What is known of the registration with an id, or the page that says why nothing is.
    async fn find(&self, id: &str) -> Result<Arc<Found>, Box<Response>> {
        const TITLE: &str = "No registration";
        let page = |status, text| Box::new(self.message(status, TITLE, text));
        let id = id.parse::<RegistrationId>();
        let id = id.map_err(|_| page(StatusCode::NOT_FOUND, "The address has no registration id."))?;
        self.lookup.get(&self.registrar, id).await.map_err(|error| match error {
            LookupError::Unknown => page(StatusCode::NOT_FOUND, "The database has no registration with this id."),
            LookupError::Store(error) => {
                tracing::debug!(error = %error, "failed to read a registration for the operator page");
                page(StatusCode::SERVICE_UNAVAILABLE, "The database cannot be read now.")
            }
            LookupError::Timeout => page(StatusCode::SERVICE_UNAVAILABLE, DATABASE_LATE),
        })
    }

    fn message(&self, status: StatusCode, title: &str, text: &str) -> Response {
        let page = Page::new(&self.registrar, clock::now());
        html(status, &MessagePage { page, title: title.to_owned(), text: text.to_owned() })
    }
}

/// The pages. Only GET, so that nothing can be changed here.
pub(crate) fn pages(ui: Ui) -> Router {
    Router::new()
        .route("/ui", get(|| async { Redirect::permanent("/ui/") }))
        .route("/ui/", get(overview))
        .route("/ui/search", get(search))
        .route("/ui/registrations/{id}", get(registration))
        .route("/ui/registrations/{id}/certificate", get(certificate))
        .route("/ui/events", get(events))
        .route("/ui/{*path}", get(unknown))
        .with_state(ui)
}

/// The files of the pages, which have nothing secret.
pub(crate) fn assets() -> Router {
    Router::new()
        .route("/ui/app.css", get(|| async { respond(StatusCode::OK, "text/css; charset=utf-8", STYLE) }))
        .route("/ui/app.js", get(|| async { respond(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT) }))
        .route("/ui/icon.svg", get(|| async { respond(StatusCode::OK, "image/svg+xml", ICON) }))
}

async fn overview(State(ui): State<Ui>) -> Response {
    let overview = ui.registrar.overview().await;
    html(StatusCode::OK, &OverviewPage::new(&ui.registrar, &ui.authenticator, &overview))
}

async fn search(State(ui): State<Ui>, uri: Uri) -> Response {
    let parameters = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let text = parameters("q").unwrap_or_default();
    let after = parameters("after").and_then(|after| after.parse::<RegistrationId>().ok());
    let searching = search::search(&ui.registrar, (&text, after), clock::now());
    match timeout(QUERY_TIMEOUT, searching).await {
        Ok(Ok(Outcome::One(id))) => Redirect::to(&format!("/ui/registrations/{id}")).into_response(),
        Ok(Ok(Outcome::Page(page))) => html(StatusCode::OK, &*page),
        Ok(Err(error)) => {
            tracing::debug!(error = %error, "failed to search for the operator page");
            ui.message(StatusCode::SERVICE_UNAVAILABLE, "Not found out", "The database cannot be read now.")
        }
        Err(_) => ui.message(StatusCode::SERVICE_UNAVAILABLE, "Not found out", DATABASE_LATE),
    }
}

async fn registration(State(ui): State<Ui>, Path(id): Path<String>) -> Response {
    match ui.find(&id).await {
        Ok(found) => html(StatusCode::OK, &RegistrationPage::new(&ui.registrar, &ui.settings, &found)),
        Err(page) => *page,
    }
}

async fn certificate(State(ui): State<Ui>, Path(id): Path<String>) -> Response {
    match ui.find(&id).await {
        Ok(found) => {
            let made = ui.registrar.certify(&found.registration.request.pair, Finality::Unsafe).await;
            made.map_or_else(
                |error| ui.message(StatusCode::SERVICE_UNAVAILABLE, "No certificate now", &certificate::advice(&error)),
                |certificate| certificate::download(&certificate, found.registration.id),
            )
        }
        Err(page) => *page,
    }
}

async fn events(State(ui): State<Ui>, stream_end: Option<Extension<StreamEnd>>) -> Response {
    let of_connection = stream_end.map(|Extension(StreamEnd(token))| token);
    ui.streams.open(of_connection.into_iter().chain([ui.stop]).collect())
}

async fn unknown(State(ui): State<Ui>) -> Response {
    ui.message(StatusCode::NOT_FOUND, "No such page", "The address is none of the operator page.")
}

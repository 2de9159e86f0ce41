//! Who sees the operator page. On loopback, everyone; elsewhere, callers with the scope `admin`, over TLS: a browser
//! shows its token once, in a form, and gets a cookie with the id of a session that this process keeps in memory.

use super::{
    access::{Access, Needs},
    connections::Connection,
    refusal::Refusal,
    ui_sessions::{SESSION_LIFETIME, Sessions},
};
use crate::{
    auth::{Authenticator, Scope},
    telemetry::{self, propagation},
    ui::{self, SignIn, StreamEnd, Ui},
};
use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{AUTHORIZATION, COOKIE, SET_COOKIE},
    },
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use std::sync::Arc;

/// The prefix makes browsers refuse the cookie from another host, for another path or without TLS.
const COOKIE_NAME: &str = "__Host-registrar-session";
/// A token has 47 characters, a JWT up to 8 KiB.
const MAX_FORM_BYTES: usize = 16 * 1024;
const HOME: &str = "/ui/";
const SIGN_IN: &str = "/ui/sign-in";
const NOT_PROTECTED: &str = "the operator page is shown to other machines only with TLS and REGISTRAR_AUTH=enforce; \
                             open it on the machine of the service, at REGISTRAR_ADMIN_LISTEN on loopback\n";

/// Who may see the page.
#[derive(Clone)]
pub(super) enum Viewers {
    /// Whoever reaches the port, which is on loopback.
    Everyone,
    Admins(Gate),
    /// Without TLS, or where callers are not refused.
    Refused,
}

/// Checks viewers on other machines.
#[derive(Clone)]
pub(super) struct Gate {
    authenticator: Authenticator,
    sessions: Arc<Sessions>,
}

impl Viewers {
    /// `is_local` is of the port, `is_protected` whether it uses TLS and refuses callers that it does not know.
    pub(super) fn new(is_local: bool, is_protected: bool, authenticator: Authenticator) -> Self {
        match (is_local, is_protected) {
            (true, _) => Self::Everyone,
            (false, true) => Self::Admins(Gate { authenticator, sessions: Arc::default() }),
            (false, false) => Self::Refused,
        }
    }
}

/// The pages with their files, and the form.
pub(super) fn routes(ui: Ui, viewers: Viewers) -> Router {
    let pages = ui::pages(ui).layer(from_fn(end_streams));
    let routes = match viewers {
        Viewers::Everyone => pages,
        Viewers::Admins(gate) => {
            let form = Router::new().route(SIGN_IN, get(show_form).post(sign_in)).with_state(gate.clone());
            pages.layer(from_fn_with_state(gate, check_viewer)).merge(form)
        }
        Viewers::Refused => pages.layer(from_fn(refuse)),
    };
    routes.merge(ui::assets()).layer(map_response(ui::with_headers))
}

async fn refuse(_: Request, _: Next) -> Response {
    ui::refused(StatusCode::FORBIDDEN, NOT_PROTECTED)
}

/// Hands on when the streams of the connection are to end.
async fn end_streams(mut request: Request, next: Next) -> Response {
    if let Some(connection) = request.extensions().get::<Arc<Connection>>().cloned() {
        request.extensions_mut().insert(StreamEnd(connection.streams_end()));
    }
    next.run(request).await
}

/// A session, a bearer token of the request itself, or a client certificate.
async fn check_viewer(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let session = session_id(request.headers());
    if session.is_some_and(|id| gate.sessions.is_valid(id, &gate.authenticator)) {
        return next.run(request).await;
    }
    let connection = connection(&request);
    let shows_credentials = request.headers().contains_key(AUTHORIZATION) || connection.peer_certificate().is_some();
    if shows_credentials && gate.identify(request.headers(), &connection).await.is_ok() {
        return next.run(request).await;
    }
    if request.uri().path() == "/ui/events" {
        return ui::refused(StatusCode::UNAUTHORIZED, "sign in again\n");
    }
    let page = request.uri().path_and_query().map_or(HOME, |path| path.as_str());
    let next: String = url::form_urlencoded::byte_serialize(page.as_bytes()).collect();
    Redirect::to(&format!("{SIGN_IN}?next={next}")).into_response()
}

async fn show_form(uri: Uri) -> Response {
    let next = field(uri.query().unwrap_or_default().as_bytes(), "next");
    SignIn { next: safe_page(next), problem: None }.respond(StatusCode::OK)
}

async fn sign_in(
    State(gate): State<Gate>,
    connection: Option<Extension<Arc<Connection>>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // A form of another site could sign a viewer in as somebody else.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return ui::refused(StatusCode::FORBIDDEN, "the form was sent by another site\n");
    }
    let Ok(form) = to_bytes(body, MAX_FORM_BYTES).await else {
        return ui::refused(StatusCode::PAYLOAD_TOO_LARGE, "the form is longer than 16 KiB\n");
    };
    let next = safe_page(field(&form, "next"));
    let again = |status, problem| SignIn { next: next.clone(), problem: Some(problem) }.respond(status);
    let token = field(&form, "token").unwrap_or_default();
    let Ok(bearer) = HeaderValue::from_str(&format!("Bearer {}", token.trim())) else {
        return again(StatusCode::UNAUTHORIZED, "This is not a token.");
    };
    // Nothing else of the request identifies the viewer.
    let mut credentials = HeaderMap::new();
    credentials.insert(AUTHORIZATION, bearer);
    let connection = connection.map_or_else(Connection::new, |Extension(connection)| connection);
    let access = match gate.identify(&credentials, &connection).await {
        Ok(access) => access,
        Err(Refusal::Credentials(_)) => return again(StatusCode::UNAUTHORIZED, "The token is not known."),
        Err(Refusal::ScopeMissing(_) | Refusal::CaseNotAllowed | Refusal::CasesNotAllowed(_)) => {
            return again(StatusCode::FORBIDDEN, "The caller of this token does not have the scope admin.");
        }
        Err(Refusal::RateLimited(_) | Refusal::Limit(_)) => {
            return again(StatusCode::TOO_MANY_REQUESTS, "The caller has used up its rate; try again later.");
        }
    };
    let opened = access.into_identity().and_then(|identity| gate.sessions.open(identity));
    let Some(id) = opened else {
        return ui::refused(StatusCode::INTERNAL_SERVER_ERROR, "no session can be opened\n");
    };
    let mut response = Redirect::to(&next).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie(&id)) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

impl Gate {
    /// The caller with these credentials, if it has the scope admin. What is refused is audited.
    async fn identify(&self, headers: &HeaderMap, connection: &Arc<Connection>) -> Result<Access, Refusal> {
        let trace_id = propagation::extract(headers).trace_id;
        let (needs, call) = (Needs::Scope(Scope::Admin), (HOME, trace_id));
        let checked = Access::check(&self.authenticator, headers, connection, needs, call).with_new_keys(headers).await;
        telemetry::with_isolated_hub(async { checked.decide(trace_id) }).await
    }
}

fn connection(request: &Request) -> Arc<Connection> {
    request.extensions().get::<Arc<Connection>>().cloned().unwrap_or_else(Connection::new)
}

fn cookie(id: &str) -> String {
    let age = SESSION_LIFETIME.as_secs();
    format!("{COOKIE_NAME}={id}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Strict")
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, id)| id)
}

fn field(form: &[u8], name: &str) -> Option<String> {
    url::form_urlencoded::parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Only a page of this site: a path that begins with two slashes, or a backslash, leads to another one.
fn safe_page(page: Option<String>) -> String {
    let is_safe = |page: &String| {
        let is_plain = page.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        page.starts_with(HOME) && is_plain && !page.contains("//") && !page.starts_with(SIGN_IN)
    };
    page.filter(is_safe).unwrap_or_else(|| HOME.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_is_led_back_to_a_page_of_this_site_only() {
        for (page, expected) in [
            (Some("/ui/registrations/1?x=2"), "/ui/registrations/1?x=2"),
            (Some("/ui/search?q=a%2Fb"), "/ui/search?q=a%2Fb"),
            (None, HOME),
            (Some("//evil.example/ui/"), HOME),
            (Some("/ui//evil.example"), HOME),
            (Some("/ui/\\evil.example"), HOME),
            (Some("https://evil.example/ui/"), HOME),
            (Some("/metrics"), HOME),
            (Some("/ui/\r\nset-cookie: a=b"), HOME),
            (Some("/ui/sign-in?next=%2Fui%2F"), HOME),
        ] {
            assert_eq!(safe_page(page.map(str::to_owned)), expected, "{page:?}");
        }
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let headers = |text: &str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(text).unwrap())]);
        let with = headers("a=b; __Host-registrar-session=abc; c=d");
        assert_eq!(session_id(&with), Some("abc"));
        assert_eq!(session_id(&headers("registrar-session=abc")), None);
        assert_eq!(session_id(&HeaderMap::new()), None);
    }
}

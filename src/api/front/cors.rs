//! Which web pages may call (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use http::{HeaderMap, HeaderValue, Method, Response, header, request::Parts};
use std::str::FromStr;
use tonic::body::Body;
use url::Url;

/// In seconds, as long as Chromium keeps the answer to a preflight.
const PREFLIGHT_MAX_AGE: &str = "7200";

/// What a page may send: credentials, trace headers, and those of the protocols.
const REQUEST_HEADERS: &str = "authorization,baggage,connect-accept-encoding,connect-content-encoding,\
                               connect-protocol-version,connect-timeout-ms,content-encoding,content-type,\
                               grpc-accept-encoding,grpc-encoding,grpc-timeout,sentry-trace,traceparent,tracestate,\
                               x-grpc-web,x-user-agent";
/// What a page may read.
const RESPONSE_HEADERS: &str = "grpc-message,grpc-status,grpc-status-details-bin,trailer-www-authenticate,\
                                trailer-x-error-reason,trailer-x-registration-id,trailer-x-trace-id,www-authenticate,\
                                x-error-reason,x-registration-id,x-trace-id";

/// Of web pages, as browsers send them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct AllowedOrigins(Vec<HeaderValue>);

impl FromStr for AllowedOrigins {
    type Err = String;

    /// From a list with commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(parse_origin).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_origin(entry: &str) -> Result<HeaderValue, String> {
    if entry.contains('*') {
        return Err(
            "has an entry with *, which would let pages of others call; list the origins of your pages".to_owned()
        );
    }
    let url = Url::parse(entry).ok();
    let url = url.filter(|url| {
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        ["http", "https"].contains(&url.scheme()) && is_bare && url.username().is_empty() && url.password().is_none()
    });
    let origin = url.and_then(|url| HeaderValue::from_str(&url.origin().ascii_serialization()).ok());
    origin.ok_or_else(|| {
        "has an entry that is not an origin; use for example https://app.example.com, with a port only if it is in \
         the address of the page, and without a path"
            .to_owned()
    })
}

impl AllowedOrigins {
    /// The origin of the page that sends a request, if it may call.
    pub(super) fn of_request(&self, request: &Parts) -> Option<HeaderValue> {
        request.headers.get(header::ORIGIN).filter(|origin| self.0.contains(origin)).cloned()
    }
}

/// Whether the browser asks before it sends a call.
pub(super) fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

pub(super) fn preflight_answer() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    let mut insert = |name, value| answer.headers_mut().insert(name, HeaderValue::from_static(value));
    insert(header::ACCESS_CONTROL_ALLOW_METHODS, "POST");
    insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    answer
}

/// Lets the page read the answer.
pub(super) fn share_with(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
    // A cache must not give it to a page of another origin.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_send_them() {
        let parse = |text: &str| text.parse::<AllowedOrigins>().map(|origins| origins.0);
        let origins = parse("https://App.example.com/, http://localhost:5173,https://a.example:443,").unwrap();
        assert_eq!(origins, ["https://app.example.com", "http://localhost:5173", "https://a.example"]);
        assert_eq!(parse("").unwrap(), Vec::<HeaderValue>::new());
        for text in [
            "*",
            "null",
            "app.example.com",
            "https://app.example.com/path",
            "https://app.example.com?x",
            "https://user@app.example.com",
            "ftp://app.example.com",
            "https://*.example.com",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

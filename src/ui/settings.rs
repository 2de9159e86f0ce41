//! What an operator sets for the page.

use crate::registration::TraceId;
use url::Url;

const TRACE_ID_PLACEHOLDER: &str = "{trace_id}";

/// Of the operator page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Where a trace is shown; `None` is nowhere.
    pub(crate) trace_url: Option<TraceUrl>,
}

/// The address of a trace, with a place for its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceUrl(String);

impl TraceUrl {
    /// The text is not repeated in the error: it may contain a password.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "is not an http or https URL with {trace_id} in it; use for example \
                                https://jaeger.example.com/trace/{trace_id}";
        let example = text.replace(TRACE_ID_PLACEHOLDER, "0");
        let url = Url::parse(&example).map_err(|_| EXPECTED)?;
        let is_web = ["http", "https"].contains(&url.scheme()) && url.has_host();
        if !is_web || !text.contains(TRACE_ID_PLACEHOLDER) {
            return Err(EXPECTED);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("contains a user or a password, which every viewer of the page would see");
        }
        Ok(Self(text.to_owned()))
    }

    pub(super) fn of(&self, trace_id: TraceId) -> String {
        self.0.replace(TRACE_ID_PLACEHOLDER, &trace_id.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_trace_has_a_place_for_its_id_and_no_password() {
        let id: TraceId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        for (text, expected) in [
            (
                "https://jaeger.example/trace/{trace_id}",
                "https://jaeger.example/trace/0123456789abcdef0123456789abcdef",
            ),
            (
                "http://127.0.0.1:8969/?t={trace_id}&x=1",
                "http://127.0.0.1:8969/?t=0123456789abcdef0123456789abcdef&x=1",
            ),
        ] {
            assert_eq!(TraceUrl::parse(text).unwrap().of(id), expected);
        }
        for text in [
            "",
            "jaeger",
            "https://jaeger.example/trace/",
            "javascript:alert('{trace_id}')",
            "data:text/html,{trace_id}",
            "https://user:secret@jaeger.example/{trace_id}",
            "/trace/{trace_id}",
        ] {
            let error = TraceUrl::parse(text).unwrap_err();
            assert!(!error.contains("secret"), "{text}");
        }
    }
}

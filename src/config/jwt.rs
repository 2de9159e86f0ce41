//! JSON Web Tokens: which issuer's are accepted.

use super::{ConfigErrors, ServeArgs};
use crate::auth::{JwksSource, JwtSettings, is_allowed_for_keys};
use std::path::PathBuf;
use url::Url;

pub(super) fn read_jwt(args: &ServeArgs, errors: &mut ConfigErrors) -> Option<JwtSettings> {
    const ISSUER: &str = "REGISTRAR_JWT_ISSUER";
    const AUDIENCE: &str = "REGISTRAR_JWT_AUDIENCE";
    const JWKS: &str = "REGISTRAR_JWT_JWKS";
    let text =
        |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let (issuer, audience, jwks) = (text(&args.jwt_issuer), text(&args.jwt_audience), text(&args.jwt_jwks));
    let Some(issuer) = issuer else {
        for (name, value) in [(AUDIENCE, &audience), (JWKS, &jwks)] {
            if value.is_some() {
                errors.add(name, format!("has no effect without an issuer; set {ISSUER} as well"));
            }
        }
        return None;
    };
    if audience.is_none() {
        errors.add(AUDIENCE, format!("is required with {ISSUER}: the `aud` of tokens for this service"));
    }
    let source = match &jwks {
        Some(jwks) if jwks.contains("://") => parse_url(jwks).map(JwksSource::Url).map_err(|problem| (JWKS, problem)),
        Some(path) => Ok(JwksSource::File(PathBuf::from(path))),
        None => parse_url(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
            .map(JwksSource::Discovery)
            .map_err(|problem| (ISSUER, problem)),
    };
    match (source, audience) {
        (Ok(source), Some(audience)) => Some(JwtSettings { issuer, audience, source }),
        (Err((name, problem)), _) => {
            errors.add(name, problem);
            None
        }
        (Ok(_), None) => None,
    }
}

fn parse_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(
        |_| "is not a URL, where the issuer's keys could be found; use https://, or set REGISTRAR_JWT_JWKS to a file",
    )?;
    if is_allowed_for_keys(&url) {
        Ok(url)
    } else {
        Err("is not https://; on the way of anything else the keys can be replaced (http:// is accepted on loopback)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(issuer: &str, audience: &str, jwks: &str) -> Result<Option<JwtSettings>, String> {
        let option = |text: &str| Some(text.to_owned());
        let args = ServeArgs {
            jwt_issuer: option(issuer),
            jwt_audience: option(audience),
            jwt_jwks: option(jwks),
            ..Default::default()
        };
        let mut errors = ConfigErrors::default();
        let settings = read_jwt(&args, &mut errors);
        if errors.is_empty() { Ok(settings) } else { Err(errors.to_string()) }
    }

    #[test]
    fn the_keys_come_from_a_file_a_url_or_the_issuer() {
        let source = |issuer, jwks| read(issuer, "registrar", jwks).unwrap().unwrap().source;
        let url = |text: &str| Url::parse(text).unwrap();
        for (issuer, jwks, expected) in [
            (
                "https://issuer.example/tenant/",
                "",
                JwksSource::Discovery(url("https://issuer.example/tenant/.well-known/openid-configuration")),
            ),
            ("an issuer", "https://issuer.example/keys", JwksSource::Url(url("https://issuer.example/keys"))),
            ("an issuer", "http://127.0.0.1:1/keys", JwksSource::Url(url("http://127.0.0.1:1/keys"))),
            ("an issuer", "/etc/keys.json", JwksSource::File("/etc/keys.json".into())),
        ] {
            assert_eq!(source(issuer, jwks), expected);
        }
        assert_eq!(read("", "", ""), Ok(None));
    }

    #[test]
    fn incomplete_and_insecure_settings_are_refused() {
        for (issuer, audience, jwks, expected) in [
            ("https://issuer.example", "", "", "REGISTRAR_JWT_AUDIENCE: is required with REGISTRAR_JWT_ISSUER"),
            ("", "registrar", "", "REGISTRAR_JWT_AUDIENCE: has no effect without an issuer"),
            ("", "", "/keys", "REGISTRAR_JWT_JWKS: has no effect without an issuer"),
            ("http://issuer.example", "registrar", "", "REGISTRAR_JWT_ISSUER: is not https://"),
            ("an issuer", "registrar", "", "REGISTRAR_JWT_ISSUER: is not a URL"),
            ("an issuer", "registrar", "http://issuer.example/keys", "REGISTRAR_JWT_JWKS: is not https://"),
            ("an issuer", "registrar", "ftp://127.0.0.1/keys", "REGISTRAR_JWT_JWKS: is not https://"),
        ] {
            let errors = read(issuer, audience, jwks).unwrap_err();
            assert!(errors.contains(expected), "`{expected}` is missing in {errors}");
        }
    }
}

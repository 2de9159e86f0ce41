//! Against a real web server with the keys.

#[path = "../../../tests/it/harness/issuer.rs"]
#[allow(dead_code, reason = "the integration tests use all of it")]
mod issuer;

use super::{FetchError, JwksSource, JwtError, JwtSettings, JwtVerifier};
use crate::registration::Timestamp;
use futures_util::future::join_all;
use issuer::{AUDIENCE, Answers, Issuer, SigningKey, hmac_token, unix_now, unsigned_token};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);

fn settings(issuer: &Issuer, source: JwksSource) -> JwtSettings {
    // Fails when another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    JwtSettings { issuer: issuer.url(), audience: AUDIENCE.to_owned(), source }
}

fn keys_url(issuer: &Issuer) -> JwksSource {
    JwksSource::Url(issuer.keys_url().parse().unwrap())
}

async fn verifier(issuer: &Issuer) -> JwtVerifier {
    JwtVerifier::start(settings(issuer, keys_url(issuer))).await.unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_seconds(unix_now().unsigned_abs())
}

/// The claims with one of them changed, or without it.
fn with(mut claims: Value, name: &str, value: Option<Value>) -> Value {
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    claims
}

async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_verified() {
    let keys = [SigningKey::rs256(), SigningKey::es256(), SigningKey::ed_dsa()];
    let jwks = keys.iter().map(|key| key.jwk(key.algorithm()));
    // Of other kinds, which are left out.
    let others =
        [json!({ "kty": "oct", "k": "AAAA", "kid": "shared" }), json!({ "kty": "AKP", "kid": "new" }), json!(1)];
    let issuer = Issuer::start(jwks.chain(others).collect());
    let verifier = verifier(&issuer).await;
    for key in &keys {
        let token = key.token(key.algorithm(), &issuer.claims("aaa"));
        assert!(JwtVerifier::is_jwt(&token));
        // From its signature, then from the cache.
        for _ in 0..2 {
            let verified = verifier.verify(&token, now()).unwrap();
            assert_eq!((&*verified.issuer, &*verified.subject), (issuer.url().as_str(), "aaa"));
            assert!(verified.expires_at > now());
        }
        // A token without a key's id, if only one key is for its algorithm.
        let unnamed = key.sign(&json!({ "alg": key.algorithm() }), &issuer.claims("aaa"));
        assert!(verifier.verify(&unnamed, now()).is_ok(), "{}", key.algorithm());
    }
    assert!(!JwtVerifier::is_jwt("rgs_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"));
}

#[tokio::test]
async fn a_token_that_is_not_to_be_trusted_is_refused() {
    let (key, other) = (SigningKey::es256(), SigningKey::es256());
    let rsa = SigningKey::rs256();
    let issuer = Issuer::start(vec![key.jwk("one"), rsa.jwk("rsa")]);
    let verifier = verifier(&issuer).await;
    let claims = || issuer.claims("aaa");
    let signed = |claims: Value| key.token("one", &claims);
    let SigningKey::Rs256(pair) = &rsa else { panic!("it is RSA") };
    let public_key = pair.public().as_ref();
    let changed = {
        let token = signed(claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let (_, payload) =
            signed(issuer.claims("admin")).rsplit_once('.').map(|(m, s)| (s.to_owned(), m.to_owned())).unwrap();
        format!("{header}.{}.{signature}", payload.split_once('.').unwrap().1)
    };
    let lacks = "lacks exp, iss, aud or sub";
    for (what, token, expected) in [
        ("alg none", unsigned_token(&json!({ "alg": "none", "kid": "one" }), &claims()), "cannot be read"),
        ("HS256 with the public key", hmac_token(public_key, "rsa", &claims()), "another algorithm"),
        ("HS256 without an id", hmac_token(public_key, "", &claims()), "another algorithm"),
        ("an algorithm that is not the key's", other.token("rsa", &claims()), "another algorithm"),
        ("another key", other.token("one", &claims()), "the signature of the token is wrong"),
        ("changed claims", changed, "the signature of the token is wrong"),
        ("no signature", unsigned_token(&json!({ "alg": "ES256", "kid": "one" }), &claims()), "signature"),
        ("another issuer", signed(with(claims(), "iss", Some("https://evil.example".into()))), "another issuer"),
        ("another audience", signed(with(claims(), "aud", Some("other".into()))), "another audience"),
        ("no exp", signed(with(claims(), "exp", None)), lacks),
        ("exp that is no number", signed(with(claims(), "exp", Some("soon".into()))), lacks),
        ("no iss", signed(with(claims(), "iss", None)), lacks),
        ("no aud", signed(with(claims(), "aud", None)), lacks),
        ("no sub", signed(with(claims(), "sub", None)), lacks),
        ("an empty sub", signed(with(claims(), "sub", Some("".into()))), "an empty subject"),
        ("not a token", "a.b.c".to_owned(), "cannot be read"),
        ("nothing", "..".to_owned(), "cannot be read"),
    ] {
        match verifier.verify(&token, now()) {
            Err(JwtError::Invalid(detail)) => assert!(detail.contains(expected), "{what}: {detail}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    let many = signed(with(claims(), "aud", Some(json!(["other", AUDIENCE]))));
    assert!(verifier.verify(&many, now()).is_ok(), "one of several audiences");
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_token_is_valid_in_its_time_with_30_seconds_for_clocks() {
    let key = SigningKey::ed_dsa();
    let issuer = Issuer::start(vec![key.jwk("one")]);
    let verifier = verifier(&issuer).await;
    let begin = unix_now();
    let claims = with(with(issuer.claims("aaa"), "nbf", Some(begin.into())), "exp", Some((begin + 100).into()));
    let token = key.token("one", &claims);
    let at = |seconds: i64| verifier.verify(&token, Timestamp::from_micros((begin + seconds) * 1_000_000)).map(drop);
    // Twice: once it is in the cache, the same is true.
    for _ in 0..2 {
        for (seconds, expected) in
            [(-31, Err(JwtError::NotYetValid)), (-29, Ok(())), (129, Ok(())), (131, Err(JwtError::Expired))]
        {
            assert_eq!(at(seconds), expected, "{seconds} s");
        }
    }
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_in_30_seconds() {
    let (key, new) = (SigningKey::es256(), SigningKey::es256());
    let issuer = Issuer::start(vec![key.jwk("one")]);
    let verifier = verifier(&issuer).await;
    let stop = CancellationToken::new();
    let refreshing = tokio::spawn(verifier.clone().run(stop.clone()));
    let storm = async || {
        let tokens: Vec<_> =
            (0..100).map(|number| new.token(&format!("made up {number}"), &issuer.claims("x"))).collect();
        let results = join_all(tokens.iter().map(|token| verifier.verify_or_fetch(token, now()))).await;
        assert!(results.iter().all(|result| *result == Err(JwtError::UnknownKey)), "{results:?}");
    };
    storm().await;
    assert_eq!(issuer.fetches(), 2);
    storm().await;
    assert_eq!(issuer.fetches(), 2);

    // A new key is known with the first token that it signed, and one that is gone is not.
    advance(Duration::from_secs(31)).await;
    let old = key.token("one", &issuer.claims("aaa"));
    assert!(verifier.verify(&old, now()).is_ok());
    issuer.set_keys(vec![new.jwk("two")]);
    assert!(verifier.verify_or_fetch(&new.token("two", &issuer.claims("aaa")), now()).await.is_ok());
    assert_eq!(issuer.fetches(), 3);
    assert_eq!(verifier.verify(&old, now()), Err(JwtError::UnknownKey));
    stop.cancel();
    refreshing.await.unwrap();
}

#[tokio::test]
async fn keys_are_fetched_every_five_minutes_and_kept_for_an_hour() {
    let (key, next) = (SigningKey::ed_dsa(), SigningKey::ed_dsa());
    let issuer = Issuer::start(vec![key.jwk("one")]);
    let verifier = verifier(&issuer).await;
    let _refreshing = tokio::spawn(verifier.clone().run(CancellationToken::new()));
    tokio::task::yield_now().await;
    let fetched = async |count: usize| {
        let started = Instant::now();
        while issuer.fetches() < count && started.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(issuer.fetches(), count);
    };
    issuer.set_keys(vec![key.jwk("one"), next.jwk("two")]);
    advance(Duration::from_secs(301)).await;
    fetched(2).await;
    let token = next.token("two", &issuer.claims("aaa"));
    let started = Instant::now();
    while verifier.verify(&token, now()).is_err() && started.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(verifier.verify(&token, now()).is_ok());

    issuer.set_answers(Answers::Status(503));
    advance(Duration::from_secs(301)).await;
    fetched(3).await;
    assert!(verifier.verify(&token, now()).is_ok());
    advance(HOUR).await;
    let stale = JwtError::Invalid("the keys of the issuer could not be fetched for an hour");
    assert_eq!(verifier.verify(&token, now()), Err(stale));
    issuer.set_answers(Answers::Documents);
    advance(Duration::from_secs(31)).await;
    let started = Instant::now();
    while verifier.verify(&token, now()).is_err() && started.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(verifier.verify(&token, now()).is_ok());
}

#[tokio::test]
async fn keys_come_from_the_discovery_document_or_a_file() {
    let key = SigningKey::rs256();
    let issuer = Issuer::start(vec![key.jwk("one")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({ "keys": [key.jwk("one")] }).to_string()).unwrap();
    let discovery = format!("{}/.well-known/openid-configuration", issuer.url()).parse().unwrap();
    for source in [JwksSource::Discovery(discovery), JwksSource::File(file.path().to_owned())] {
        let verifier = JwtVerifier::start(settings(&issuer, source)).await.unwrap();
        assert!(verifier.verify(&key.token("one", &issuer.claims("aaa")), now()).is_ok());
    }
}

#[tokio::test]
async fn a_first_fetch_that_fails_says_why_in_bounded_time() {
    let key = SigningKey::ed_dsa();
    let issuer = Issuer::start(vec![key.jwk("one")]);
    let elsewhere = Issuer::start(vec![key.jwk("one")]);
    let fails = async |source: JwksSource| JwtVerifier::start(settings(&issuer, source)).await.err().unwrap();
    let mut large = json!({ "keys": [key.jwk("one")] }).to_string().into_bytes();
    large.resize(2 * 1024 * 1024, b' ');
    for (answers, expected, is_transient) in [
        (Answers::Silence, "did not answer within 5 s", true),
        (Answers::Status(500), "HTTP status 500", true),
        (Answers::Status(404), "HTTP status 404", false),
        (Answers::Body(large), "longer than 1048576 bytes", false),
        (Answers::Body(b"<html>".to_vec()), "is not a JSON Web Key Set", false),
        (Answers::Body(b"{\"keys\":[]}".to_vec()), "has no key", false),
        (Answers::RedirectTo(elsewhere.keys_url()), "redirects to another host", false),
    ] {
        issuer.set_answers(answers);
        let started = Instant::now();
        let error = fails(keys_url(&issuer)).await;
        assert!(error.to_string().contains(expected), "`{expected}` is missing in {error}");
        assert_eq!(error.is_transient(), is_transient, "{error}");
        assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    }
    assert_eq!(elsewhere.fetches(), 0);
    issuer.set_answers(Answers::Documents);
    issuer.set_name("https://evil.example");
    let discovery = format!("{}/.well-known/openid-configuration", issuer.url()).parse().unwrap();
    assert!(matches!(fails(JwksSource::Discovery(discovery)).await, FetchError::OtherIssuer { .. }));
    let closed = JwksSource::Url("http://127.0.0.1:1/keys".parse().unwrap());
    assert!(fails(closed).await.is_transient());
    assert!(matches!(fails(JwksSource::File("/absent".into())).await, FetchError::File(_)));
}

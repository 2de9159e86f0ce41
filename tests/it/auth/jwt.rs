//! Callers that are known by tokens of an issuer.

use super::{Guarded, READ_TOKEN, audit::audit_lines, caller};
use crate::harness::{
    CASE, StackBuilder, WaitFor, eventually,
    issuer::{AUDIENCE, Issuer, SigningKey, hmac_token, unix_now, unsigned_token},
    register_request,
};
use serde_json::{Value, json};
use tonic::Code;

const INVALID: (Code, &str) = (Code::Unauthenticated, "CREDENTIALS_INVALID");

async fn start(issuer: &Issuer, callers: &str) -> Guarded {
    let builder = StackBuilder::on_demand();
    let builder = builder.set("REGISTRAR_JWT_ISSUER", issuer.url()).set("REGISTRAR_JWT_AUDIENCE", AUDIENCE);
    Guarded::start_with(builder, "enforce", callers).await
}

fn callers(issuer: &Issuer) -> String {
    let by_subject = format!(
        "[[callers]]\nname = \"by-subject\"\nsubjects = [\"{}|service-a\"]\nscopes = [\"register\", \"read\"]\n",
        issuer.url()
    );
    by_subject + &caller("by-token", READ_TOKEN, r#""read""#, "")
}

#[tokio::test]
async fn a_token_of_the_issuer_identifies_the_caller_of_its_subject() {
    let key = SigningKey::es256();
    let issuer = Issuer::start(vec![key.jwk("one")]);
    let guarded = start(&issuer, &callers(&issuer)).await;
    let with = |claims: Value| guarded.client(&key.token("one", &claims));
    let change = |name: &str, value: Value| {
        let mut claims = issuer.claims("service-a");
        claims[name] = value;
        claims
    };
    let id = with(issuer.claims("service-a")).accept(1, CASE).await.id;
    let [line] = &audit_lines(&guarded.stack.service, 1).await[..] else { panic!("not one line") };
    assert_eq!((line["caller"].as_str(), line["identification"].as_str()), (Some("by-subject"), Some("jwt")));
    guarded.client(READ_TOKEN).get(&id).await.unwrap();

    let expired = with(change("exp", json!(unix_now() - 31))).get(&id).await.unwrap_err();
    assert_eq!(expired.kind(), (Code::Unauthenticated, "CREDENTIALS_EXPIRED"));
    with(change("exp", json!(unix_now() - 5))).get(&id).await.unwrap();
    let claims = issuer.claims("service-a");
    let public = key.jwk("one").to_string();
    for token in [
        key.token("one", &issuer.claims("service-b")),
        key.token("one", &change("iss", json!("https://other.example"))),
        key.token("one", &change("aud", json!("another-service"))),
        key.token("one", &change("nbf", json!(unix_now() + 60))),
        key.token("one", &change("exp", Value::Null)),
        SigningKey::es256().token("one", &claims),
        unsigned_token(&json!({"alg": "none", "kid": "one"}), &claims),
        hmac_token(public.as_bytes(), "one", &claims),
        "a.b.c".to_owned(),
    ] {
        let error = guarded.client(&token).get(&id).await.unwrap_err();
        assert_eq!((error.kind(), error.message.as_str()), (INVALID, "the credentials are not known"), "{token}");
    }
    let log = guarded.stack.service.output().concat();
    assert!(!log.contains("eyJ"), "a token is in the log");
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_fetched_with_its_first_token_and_made_up_ones_are_not() {
    let (old, new) = (SigningKey::rs256(), SigningKey::ed_dsa());
    let issuer = Issuer::start(vec![old.jwk("old")]);
    let guarded = start(&issuer, &callers(&issuer)).await;
    let claims = issuer.claims("service-a");
    let id = guarded.client(&old.token("old", &claims)).accept(1, CASE).await.id;
    issuer.set_keys(vec![new.jwk("new")]);

    guarded.client(&new.token("new", &claims)).get(&id).await.unwrap();

    let fetches = issuer.fetches();
    for number in 0..20 {
        let error = guarded.client(&old.token(&format!("made up {number}"), &claims)).get(&id).await.unwrap_err();
        assert_eq!(error.kind(), INVALID);
    }
    assert_eq!(issuer.fetches(), fetches);
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_its_caller() {
    let key = SigningKey::es256();
    let issuer = Issuer::start(vec![key.jwk("one")]);
    let guarded = start(&issuer, &callers(&issuer)).await;
    let client = guarded.client(&key.token("one", &issuer.claims("service-a")));
    guarded.stack.anvil.stop_mining().await;
    let id = client.register(register_request(1, CASE, WaitFor::Accepted)).await.unwrap().id;
    let mut claims = issuer.claims("service-a");
    // Within the leeway: it is accepted, and ends at once.
    claims["exp"] = json!(unix_now() - 5);
    let mut ends = guarded.client(&key.token("one", &claims)).watch(&id, WaitFor::Confirmed, 0).await.unwrap();
    let error = eventually("the end of the stream", async || ends.next().await.and_then(Result::err)).await;
    assert_eq!(error.kind(), (Code::Unauthenticated, "CREDENTIALS_EXPIRED"));

    let mut lasts = client.watch(&id, WaitFor::Confirmed, 0).await.unwrap();
    lasts.next().await.unwrap().unwrap();
    guarded.replace_callers(&callers(&issuer).replace("service-a", "service-c")).await;
    let error = eventually("the end of the stream", async || lasts.next().await.and_then(Result::err)).await;
    assert_eq!(error.kind(), INVALID);
}

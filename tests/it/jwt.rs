//! JSON Web Tokens: the issuer's keys at the start of the service.

use crate::harness::{
    Service, StackBuilder,
    issuer::{AUDIENCE, Answers, Issuer, SigningKey},
    service::Settings,
};
use std::time::Duration;
use tokio::time::Instant;

fn with_issuer(settings: &Settings, issuer: &Issuer) -> Settings {
    settings.clone().set("REGISTRAR_JWT_ISSUER", issuer.url()).set("REGISTRAR_JWT_AUDIENCE", AUDIENCE)
}

#[tokio::test]
async fn a_service_whose_issuer_has_no_keys_does_not_start() {
    let issuer = Issuer::start(vec![SigningKey::es256().jwk("one")]);
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let discovered = with_issuer(&settings, &issuer);
    for (settings, answers, words, code) in [
        (discovered.clone(), Answers::Silence, "did not answer within 5 s", 1),
        (discovered.clone(), Answers::Status(503), "HTTP status 503", 1),
        (discovered.clone(), Answers::Body(b"{}".to_vec()), "is not a discovery document", 64),
        (discovered.clone().set("REGISTRAR_JWT_JWKS", issuer.keys_url()), Answers::Status(404), "HTTP status 404", 64),
        (discovered.clone().set("REGISTRAR_JWT_JWKS", "/absent"), Answers::Documents, "cannot be read", 64),
        (discovered.clone().set("REGISTRAR_JWT_AUDIENCE", ""), Answers::Documents, "REGISTRAR_JWT_AUDIENCE", 64),
    ] {
        issuer.set_answers(answers);
        let started = Instant::now();
        let failed = Service::expect_start_failure(&settings).await;
        assert!(failed.output.contains(words), "`{words}` is missing in {failed:?}");
        assert_eq!(failed.code, code, "{failed:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
    assert_eq!(issuer.fetches(), 1);

    issuer.set_answers(Answers::Documents);
    let service = Service::start(&discovered).await;
    assert_eq!(service.http("/readyz").await.0, 200);
    assert_eq!(issuer.fetches(), 2);
}

//! Credentials, scopes and cases.

use super::{ADMIN_TOKEN, Guarded, READ_TOKEN, REGISTER_TOKEN, audit::audit_lines, caller, hash, three_callers};
use crate::harness::{
    CASE, Client, Finality, StackBuilder, WaitFor, cli::run, client::health, document, eventually,
    register_all_request, register_request, service::Settings, within,
};
use registrar::api::proto::{
    DocumentKey, GetCertificateRequest, GetServiceInfoRequest, ListRegistrationsRequest, RegisterDocumentRequest,
    get_certificate_request::{self, Key},
};
use std::fs;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;

fn accept_request(number: u64, case: &str) -> RegisterDocumentRequest {
    register_request(number, case, WaitFor::Accepted)
}

#[tokio::test]
async fn a_caller_may_do_what_its_scopes_say_and_no_more() {
    let guarded = Guarded::start("enforce", &three_callers()).await;
    let [registers, reads, operates] = [REGISTER_TOKEN, READ_TOKEN, ADMIN_TOKEN].map(|token| guarded.client(token));
    let id = registers.accept(1, CASE).await.id;
    operates.accept(2, CASE).await;

    const DENIED: (Code, &str) = (Code::PermissionDenied, "SCOPE_MISSING");
    assert_eq!(reads.register(accept_request(3, CASE)).await.unwrap_err().kind(), DENIED);
    assert_eq!(registers.get(&id).await.unwrap_err().kind(), DENIED);
    assert_eq!(registers.list(Default::default()).await.unwrap_err().kind(), DENIED);
    assert_eq!(registers.watch(&id, WaitFor::Confirmed, 0).await.err().unwrap().kind(), DENIED);
    assert_eq!(registers.diagnose(&id).await.unwrap_err().kind(), DENIED);
    assert_eq!(registers.verify(&document(1), CASE).await.unwrap_err().kind(), DENIED);
    let certificate = || GetCertificateRequest {
        key: Some(get_certificate_request::Key::Id(id.clone())),
        min_finality: Finality::Unsafe.into(),
    };
    assert_eq!(registers.certificate(certificate()).await.unwrap_err().kind(), DENIED);
    for client in [&reads, &operates] {
        client.get(&id).await.unwrap();
        eventually("a certificate", async || client.certificate(certificate()).await.ok()).await;
        client.diagnose(&id).await.unwrap();
        client.verify(&document(1), CASE).await.unwrap();
        assert_eq!(client.list(Default::default()).await.unwrap().registrations.len(), 2);
    }
    for client in [&registers, &reads, &operates] {
        client.info().await;
    }
    // Probes have no credentials.
    assert_eq!(health(guarded.stack.service.grpc, "").await, Ok(ServingStatus::Serving));
    assert_eq!(guarded.stack.service.http("/readyz").await.0, 200);
}

#[tokio::test]
async fn unknown_callers_learn_that_they_are_unknown_and_nothing_else() {
    let guarded = Guarded::start("enforce", &three_callers()).await;
    let client = &guarded.stack.client;
    let missing = client.get("x").await.unwrap_err();
    assert_eq!(missing.kind(), (Code::Unauthenticated, "CREDENTIALS_MISSING"));
    let challenge = |status: &Status| status.metadata().get("www-authenticate").unwrap().to_str().unwrap().to_owned();
    let status = client.stub().get_service_info(GetServiceInfoRequest {}).await.unwrap_err();
    assert_eq!(challenge(&status), "Bearer");

    let wrong = [
        format!("Bearer {REGISTER_TOKEN}x"),
        format!("Bearer {}", REGISTER_TOKEN.to_lowercase()),
        format!("Bearer {}", &REGISTER_TOKEN[..46]),
        format!("Bearer  {REGISTER_TOKEN}"),
        format!("Bearer {REGISTER_TOKEN} "),
        format!("Basic {REGISTER_TOKEN}"),
        REGISTER_TOKEN.to_owned(),
        hash(REGISTER_TOKEN),
        format!("Bearer {}", "a".repeat(10_000)),
    ];
    for header in wrong {
        let error = client.authorized(&header).register(accept_request(1, CASE)).await.unwrap_err();
        assert_eq!(error.kind(), (Code::Unauthenticated, "CREDENTIALS_INVALID"), "{header}");
        assert_eq!(error.message, "the credentials are not known");
    }
    let mut twice = Request::new(GetServiceInfoRequest {});
    twice.metadata_mut().append("authorization", format!("Bearer {READ_TOKEN}").parse().unwrap());
    let status = guarded.client(REGISTER_TOKEN).stub().get_service_info(twice).await;
    // The interceptor replaces what the request has, so that there is one header.
    status.unwrap();

    let log = guarded.stack.service.output().concat();
    assert!(!log.contains(REGISTER_TOKEN) && !log.contains(&REGISTER_TOKEN[4..40]), "a token is in the log");
    let nothing = guarded.client(READ_TOKEN).list(Default::default()).await.unwrap();
    assert_eq!(nothing.registrations, []);
}

#[tokio::test]
async fn a_caller_sees_and_registers_its_cases_alone() {
    let prefixed = |name, token, prefix: &str| {
        caller(name, token, r#""register", "read", "verify""#, &format!("case_prefixes = [\"{prefix}\"]"))
    };
    let callers = [prefixed("aaa", REGISTER_TOKEN, "AAA-"), prefixed("bbb", READ_TOKEN, "BBB-"), {
        caller("operates", ADMIN_TOKEN, r#""admin""#, "")
    }];
    let guarded = Guarded::start("enforce", &callers.concat()).await;
    let [aaa, bbb, operates] = [REGISTER_TOKEN, READ_TOKEN, ADMIN_TOKEN].map(|token| guarded.client(token));
    const DENIED: (Code, &str) = (Code::PermissionDenied, "CASE_NOT_ALLOWED");
    assert_eq!(aaa.register(accept_request(1, "BBB-1")).await.unwrap_err().kind(), DENIED);
    assert_eq!(aaa.verify(&document(1), "BBB-1").await.unwrap_err().kind(), DENIED);
    let of_aaa = aaa.accept(1, "AAA-1").await;
    assert_eq!(of_aaa.caller, "", "shown to operators alone");
    for number in 2..=40 {
        bbb.accept(number, "BBB-1").await;
    }

    const NOT_FOUND: (Code, &str) = (Code::NotFound, "REGISTRATION_NOT_FOUND");
    assert_eq!(bbb.get(&of_aaa.id).await.unwrap_err().kind(), NOT_FOUND);
    assert_eq!(bbb.get_pair(&document(1), "AAA-1").await.unwrap_err().kind(), NOT_FOUND);
    assert_eq!(bbb.diagnose(&of_aaa.id).await.unwrap_err().kind(), NOT_FOUND);
    assert_eq!(bbb.watch(&of_aaa.id, WaitFor::Confirmed, 0).await.err().unwrap().kind(), NOT_FOUND);
    assert_eq!(aaa.get(&of_aaa.id).await.unwrap().id, of_aaa.id);
    let document = DocumentKey { document_hash: document(1), case_id: "AAA-1".to_owned() };
    for key in [Key::Id(of_aaa.id.clone()), Key::Document(document)] {
        let request = GetCertificateRequest { key: Some(key), min_finality: Finality::Unsafe.into() };
        assert_eq!(bbb.certificate(request.clone()).await.unwrap_err().kind(), NOT_FOUND);
        eventually("its own certificate", async || aaa.certificate(request.clone()).await.ok()).await;
    }

    let listed = async |client: &Client, request: ListRegistrationsRequest| {
        let (mut request, mut found) = (ListRegistrationsRequest { page_size: 7, ..request }, Vec::new());
        loop {
            let page = client.list(request.clone()).await.unwrap();
            found.extend(page.registrations);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return found;
            }
        }
    };
    let of_a = listed(&aaa, Default::default()).await;
    assert_eq!(of_a.iter().map(|one| &one.id).collect::<Vec<_>>(), [&of_aaa.id]);
    assert_eq!(listed(&bbb, Default::default()).await.len(), 39);
    let in_case = ListRegistrationsRequest { case_id: "AAA-1".to_owned(), ..Default::default() };
    assert_eq!(listed(&bbb, in_case).await, []);
    assert_eq!(listed(&operates, Default::default()).await.len(), 40);

    let by_caller = ListRegistrationsRequest { caller: "aaa".to_owned(), ..Default::default() };
    let found = listed(&operates, by_caller.clone()).await;
    assert_eq!((found.len(), found[0].caller.as_str()), (1, "aaa"));
    assert_eq!(aaa.list(by_caller).await.unwrap_err().kind(), (Code::PermissionDenied, "SCOPE_MISSING"));
}

#[tokio::test]
async fn a_call_with_many_documents_names_those_whose_cases_are_not_the_callers() {
    let scopes = r#""register", "read""#;
    let callers = caller("aaa", REGISTER_TOKEN, scopes, "case_prefixes = [\"AAA-\"]")
        + &caller("reads", READ_TOKEN, r#""read""#, "");
    let guarded = Guarded::start("enforce", &callers).await;
    let aaa = guarded.client(REGISTER_TOKEN);
    let mut request = register_all_request(0..20);
    for (number, document) in request.documents.iter_mut().enumerate() {
        document.case_id = if [3, 7, 8, 9].contains(&number) { "BBB-1" } else { "AAA-1" }.to_owned();
    }
    let refused = aaa.register_all(request.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), (Code::PermissionDenied, "CASE_NOT_ALLOWED"));
    let message = "the caller may not use the cases of documents[3, 7-9]; nothing was accepted";
    assert_eq!(refused.message, message);
    assert_eq!(aaa.list(Default::default()).await.unwrap().registrations, []);
    let reads = guarded.client(READ_TOKEN).register_all(request.clone()).await.unwrap_err();
    assert_eq!(reads.kind(), (Code::PermissionDenied, "SCOPE_MISSING"));

    request.documents.retain(|document| document.case_id == "AAA-1");
    let accepted = aaa.register_all(request.clone()).await.unwrap();
    aaa.register_all(request).await.unwrap();
    let lines = audit_lines(&guarded.stack.service, 18).await;
    let rpc = "/registrar.v1.RegistrarService/RegisterDocuments";
    assert!(lines.iter().all(|line| line["rpc"] == rpc));
    assert_eq!(lines.iter().find(|line| line["reason"] == "CASE_NOT_ALLOWED").unwrap()["detail"], message);
    let audited = lines.iter().filter(|line| line["decision"] == "accepted");
    let audited: Vec<_> = audited.map(|line| line["registration_id"].as_str().unwrap()).collect();
    assert_eq!(audited, accepted.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), "once each");
}

#[tokio::test]
async fn a_changed_callers_file_takes_effect_and_a_faulty_one_does_not() {
    let guarded = Guarded::start("enforce", &three_callers()).await;
    let reads = guarded.client(READ_TOKEN);
    let id = guarded.client(REGISTER_TOKEN).accept(1, CASE).await.id;
    let mut watch = reads.watch(&id, WaitFor::Finalized, 0).await.unwrap();
    let mut kept = guarded.client(ADMIN_TOKEN).watch(&id, WaitFor::Finalized, 0).await.unwrap();

    guarded.replace_callers("[[callers]]\nname = \"x\"\n").await;
    reads.info().await;
    let faulty = |line: &serde_json::Value| {
        line["level"] == "ERROR" && line["message"].as_str().unwrap().contains("callers file")
    };
    assert!(guarded.stack.service.log().iter().any(faulty));

    // The token of `reads` is replaced by another one.
    let second = "rgs_DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD";
    guarded.replace_callers(&three_callers().replace(&hash(READ_TOKEN), &hash(second))).await;
    assert_eq!(reads.get(&id).await.unwrap_err().kind(), (Code::Unauthenticated, "CREDENTIALS_INVALID"));
    guarded.client(second).get(&id).await.unwrap();
    // Its stream ends, and that of another caller does not.
    let ended = loop {
        match watch.next().await.expect("an error at the end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(ended.kind(), (Code::Unauthenticated, "CREDENTIALS_INVALID"));
    let first = kept.next().await.unwrap().unwrap();
    assert_eq!(first.id, id);
    guarded.stack.anvil.mine(70).await;
    while kept.next().await.transpose().unwrap().is_some() {}
}

#[tokio::test]
async fn a_service_with_a_faulty_callers_file_does_not_start_and_names_every_fault() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callers.toml");
    fs::write(&file, "[[callers]]\nname = \"A\"\ntokens = [\"rgs_secret\"]\nscopes = []\n").unwrap();
    let start = async |settings: &Settings| crate::harness::Service::expect_start_failure(settings).await;
    let enforced = settings.clone().set("REGISTRAR_AUTH", "enforce");

    let failed = start(&enforced.clone().set("REGISTRAR_CALLERS_FILE", file.display())).await;
    assert_eq!(failed.code, 64, "{failed:?}");
    for fault in ["has a name that", "entry 1 of `tokens`", "`scopes`"] {
        assert!(failed.output.contains(fault), "{fault}: {failed:?}");
    }
    assert!(!failed.output.contains("rgs_secret"), "{failed:?}");
    for (settings, problem) in [
        (enforced.clone(), "REGISTRAR_CALLERS_FILE: is required"),
        (enforced.clone().set("REGISTRAR_CALLERS_FILE", "/nowhere/callers.toml"), "no such file"),
        (settings.clone().set("REGISTRAR_CALLERS_FILE", file.display()), "has no effect with REGISTRAR_AUTH=off"),
        (settings.clone().set("REGISTRAR_AUTH", "on"), "is none of off, audit and enforce"),
        (settings.clone().set("REGISTRAR_LISTEN", "0.0.0.0:0"), "without TLS and authentication"),
        (settings.set("REGISTRAR_ADMIN_LISTEN", "0.0.0.0:0"), "without TLS and authentication"),
    ] {
        let failed = start(&settings).await;
        assert!(failed.code == 64 && failed.output.contains(problem), "{problem}: {failed:?}");
    }
}

#[tokio::test]
async fn a_token_made_by_the_command_is_accepted_and_its_entry_is_valid() {
    let made = run(&["token", "new", "billing", "--json"], &[]).await.object();
    let [token, hash] = ["token", "hash"].map(|key| made[key].as_str().unwrap().to_owned());
    let text = run(&["token", "new", "billing"], &[]).await.stdout;
    let entry = text.split_once("[[callers]]").map(|(_, entry)| format!("[[callers]]{entry}")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callers.toml");
    fs::write(&file, &entry).unwrap();
    let checked = run(&["callers", "check", file.to_str().unwrap()], &[]).await;
    assert_eq!((checked.code, checked.stdout.trim()), (0, "ok: 1 callers"));
    fs::write(&file, "colour = 1").unwrap();
    let checked = run(&["callers", "check", file.to_str().unwrap(), "--json"], &[]).await;
    assert_eq!((checked.code, checked.object()["faults"].as_array().unwrap().len()), (64, 2));

    let old_hash = entry.lines().find_map(|line| line.trim().strip_prefix("tokens = [\"")).unwrap();
    let entry = entry.replace(&old_hash[..hash.len()], &hash);
    let guarded = Guarded::start("enforce", &entry).await;
    within("acceptance", guarded.client(&token).accept(1, CASE)).await;
}

#[tokio::test]
async fn only_an_operator_sees_signers_and_endpoints() {
    let guarded = Guarded::start("enforce", &three_callers()).await;
    let info = guarded.client(ADMIN_TOKEN).info().await;
    assert_eq!((info.signers.len(), info.endpoints.len()), (1, 1));
    for token in [REGISTER_TOKEN, READ_TOKEN] {
        let info = guarded.client(token).info().await;
        assert_eq!((&info.signers[..], &info.endpoints[..]), (&[][..], &[][..]));
        assert!(!info.version.is_empty());
    }
}

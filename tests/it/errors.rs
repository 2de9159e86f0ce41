//! Request validation: all errors at once, in the same form for every call.

use crate::harness::{
    CASE, CallError, StackBuilder, TestStack, WaitFor, client::trace_id, document, register_request, seconds, within,
};
use registrar::api::proto::{
    DocumentKey, GetRegistrationRequest, ListRegistrationsRequest, RegisterDocumentRequest, VerifyDocumentRequest,
    WatchRegistrationRequest, get_registration_request::Key,
};
use tonic::{Code, Request};

/// Of a document, with the codec raw.
const CID: &str = "bafkreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
const UNKNOWN_ID: &str = "0190b4f6-0000-7000-8000-000000000000";

async fn stack() -> TestStack {
    StackBuilder::on_demand().start().await
}

/// Asserts that the request is rejected for exactly these fields.
async fn assert_invalid_fields(stack: &TestStack, request: RegisterDocumentRequest, fields: &[&str]) -> CallError {
    let text = format!("{request:?}");
    let text = text.chars().take(300).collect::<String>();
    let error = match stack.client.register(request).await {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_FIELD"), "{text}");
    assert_eq!(error.field_names(), fields, "{text}: {error:?}");
    assert!(error.fields.iter().all(|(_, what)| !what.is_empty()));
    error
}

#[tokio::test]
async fn all_invalid_fields_are_listed_at_once() {
    let stack = stack().await;
    let request = RegisterDocumentRequest {
        document_hash: "0x1234".into(),
        case_id: "someone@mail.example".into(),
        wait_for: 99,
        wait_timeout: seconds(-1),
        user_id: "someone@mail.example".into(),
    };

    let error =
        assert_invalid_fields(&stack, request, &["case_id", "document_hash", "user_id", "wait_for", "wait_timeout"])
            .await;

    assert!(!error.message.is_empty());
    assert_eq!(error.registration_id, None);
}

#[tokio::test]
async fn an_invalid_document_hash_is_rejected() {
    let stack = stack().await;
    let hex = "c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a";
    for text in [
        String::new(),
        "0x".into(),
        hex[1..].into(),
        format!("{hex}0"),
        format!("0x{}", &hex[2..]),
        format!("0x{}g", &hex[1..]),
        format!("{hex}  a.pdf\n"),
        format!("{hex}\n{hex}"),
        // CID in multibase `identity`: control characters, which PostgreSQL cannot store.
        format!("\u{0}\u{1}\u{55}\u{12}\u{20}{}", "a".repeat(32)),
        format!("ipfs://{CID}"),
        format!("/ipfs/{CID}"),
        format!("https://ipfs.io/ipfs/{CID}"),
        format!("https://{CID}.ipfs.dweb.link/"),
        // The CID of a libp2p key.
        "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8".into(),
        format!("0x{}", "0".repeat(64)),
        "0".repeat(64),
        "hello".into(),
        "\u{0}".into(),
        "ⅫⅫ".into(),
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMn".into(),
        // CIDs with sha2-512 and with the identity hash
        format!("f01551340{}", "ab".repeat(64)),
        "f015500050102030405".into(),
        "f".repeat(60_000),
    ] {
        let mut request = register_request(1, CASE, WaitFor::Accepted);
        request.document_hash = text;
        assert_invalid_fields(&stack, request, &["document_hash"]).await;
    }
}

#[tokio::test]
async fn an_invalid_case_id_is_rejected() {
    let stack = stack().await;
    let too_long = "c".repeat(65);
    for text in ["", &too_long, "a b", "a\n", "a\u{0}", "-a", ".a", "a@b", "é", "a\u{7f}", &"c".repeat(60_000)] {
        assert_invalid_fields(&stack, register_request(1, text, WaitFor::Accepted), &["case_id"]).await;
    }
    for text in ["a", "7", &"c".repeat(64), "A.b_c:d/e-f"] {
        stack.client.accept(1, text).await;
    }
}

#[tokio::test]
async fn an_out_of_range_wait_timeout_is_rejected() {
    let stack = stack().await;
    for (seconds, nanos) in [
        (-1, 0),
        (0, -1),
        (i64::MIN, 0),
        (i64::MAX, 0),
        (i64::MAX, i32::MAX),
        (1, -1),
        (0, 1_000_000_000),
        (i64::MIN, i32::MIN),
        (315_576_000_001, 0),
        // One nanosecond and one second above the maximum of five minutes
        (300, 1),
        (301, 0),
    ] {
        let mut request = register_request(1, CASE, WaitFor::Confirmed);
        request.wait_timeout = Some(prost_types::Duration { seconds, nanos });
        assert_invalid_fields(&stack, request, &["wait_timeout"]).await;
    }
    for (seconds, nanos) in [(300, 0), (0, 999_999_999)] {
        let mut request = register_request(1, CASE, WaitFor::Accepted);
        request.wait_timeout = Some(prost_types::Duration { seconds, nanos });
        stack.client.register(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_user_id_that_is_an_email_address_or_not_visible_ascii_is_rejected() {
    let stack = stack().await;
    let too_long = "u".repeat(129);
    for text in ["jo@mail.example", "a b", "ü", "a\n", &too_long] {
        let mut request = register_request(1, CASE, WaitFor::Accepted);
        request.user_id = text.to_owned();
        let error = assert_invalid_fields(&stack, request, &["user_id"]).await;
        assert!(!format!("{error:?}").contains("jo@mail"), "the address is repeated: {error:?}");
    }
    for text in ["", "auth0|5f7c8ec7c33c6c004bbafe82", &"u".repeat(128)] {
        let mut request = register_request(1, CASE, WaitFor::Accepted);
        request.user_id = text.to_owned();
        stack.client.register(request).await.unwrap();
    }
}

#[tokio::test]
async fn extreme_deadlines_are_answered_and_do_not_affect_later_calls() {
    let stack = stack().await;
    let call = async |timeout: &'static str| {
        let mut request = Request::new(register_request(1, CASE, WaitFor::Accepted));
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        within(timeout, stack.client.stub().register_document(request)).await.map_err(|status| status.code())
    };

    for expired in ["1n", "0S"] {
        let code = call(expired).await.unwrap_err();
        // The client's own timer and the service's answer race: `Cancelled` is the former, `DeadlineExceeded` the
        // latter.
        assert!(matches!(code, Code::Cancelled | Code::DeadlineExceeded), "{expired}: {code:?}");
    }
    call("99999999H").await.unwrap();
    stack.client.confirm(2, CASE).await;
}

#[tokio::test]
async fn unknown_registrations_are_not_found() {
    let stack = stack().await;
    let not_found = (Code::NotFound, "REGISTRATION_NOT_FOUND");

    assert_eq!(stack.client.get(UNKNOWN_ID).await.unwrap_err().kind(), not_found);
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap_err().kind(), not_found);
    assert_eq!(stack.client.diagnose(UNKNOWN_ID).await.unwrap_err().kind(), not_found);
    let watch = match stack.client.watch(UNKNOWN_ID, WaitFor::Confirmed, 0).await {
        Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(watch.kind(), not_found);
    stack.client.accept(1, "another-case").await;
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap_err().kind(), not_found);
}

#[tokio::test]
async fn every_call_lists_its_invalid_fields() {
    let stack = stack().await;
    let mut stub = stack.client.stub();
    let bad_pair = || DocumentKey { document_hash: "zz".into(), case_id: String::new() };
    let invalid = (Code::InvalidArgument, "INVALID_FIELD");

    let by_pair = GetRegistrationRequest { key: Some(Key::Document(bad_pair())) };
    let error = CallError::from(stub.get_registration(by_pair).await.unwrap_err());
    assert_eq!(error.kind(), invalid);
    assert_eq!(error.field_names(), ["document.case_id", "document.document_hash"]);

    for key in [None, Some(Key::Id(String::new())), Some(Key::Id("not-a-uuid".into()))] {
        let error = CallError::from(stub.get_registration(GetRegistrationRequest { key }).await.unwrap_err());
        assert_eq!(error.kind(), invalid);
        assert_eq!(error.fields.len(), 1, "{error:?}");
    }

    let DocumentKey { document_hash, case_id } = bad_pair();
    let verify = VerifyDocumentRequest { document_hash, case_id };
    let error = CallError::from(stub.verify_document(verify).await.unwrap_err());
    assert_eq!((error.kind(), error.field_names()), (invalid, vec!["case_id", "document_hash"]));

    let watch = WatchRegistrationRequest { id: "x".into(), until: 99, after_revision: -1 };
    let error = CallError::from(stub.watch_registration(watch).await.unwrap_err());
    assert_eq!((error.kind(), error.field_names()), (invalid, vec!["after_revision", "id", "until"]));

    let list = ListRegistrationsRequest {
        page_size: -1,
        page_token: "nonsense".into(),
        states: vec![99],
        case_id: "a b".into(),
        document_hash: "zz".into(),
        caller: "Not A Name".into(),
        user_id: "a@b.example".into(),
        blocked_reasons: vec!["NO_REASON".into()],
        create_time_from: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        create_time_to: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
        transaction_hash: "0x12".into(),
        order: 99,
    };
    let error = stack.client.list(list).await.unwrap_err();
    assert_eq!(error.kind(), invalid);
    let fields = [
        "blocked_reasons",
        "caller",
        "case_id",
        "create_time_from",
        "create_time_to",
        "document_hash",
        "order",
        "page_size",
        "page_token",
        "states",
        "transaction_hash",
        "user_id",
    ];
    assert_eq!(error.field_names(), fields);
}

#[tokio::test]
async fn an_unknown_method_is_answered_with_a_trace_id() {
    let stack = stack().await;
    let channel = crate::harness::client::channel(stack.service.grpc).await;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = "/registrar.v1.RegistrarService/Nonsense".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<RegisterDocumentRequest, RegisterDocumentRequest>::default();

    let answer = grpc.unary(Request::new(RegisterDocumentRequest::default()), path, codec).await;

    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    trace_id(status.metadata());
}

#[tokio::test]
async fn the_longest_valid_request_keeps_error_trailers_small() {
    let stack = stack().await;
    stack.anvil.stop_mining().await;
    let mut request = register_request(1, &"c".repeat(64), WaitFor::Confirmed);
    // The longest accepted form of a hash: a CID in base 2.
    let digest = alloy::primitives::keccak256("longest");
    let bits: String = [0x01, 0x55, 0x12, 0x20].iter().chain(digest.iter()).map(|byte| format!("{byte:08b}")).collect();
    request.document_hash = format!("0{bits}");
    request.user_id = "u".repeat(128);
    request.wait_timeout = Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 });

    // The client checks the size of every error's trailers.
    let error = stack.client.register(request).await.unwrap_err();

    assert_eq!(error.reason, "WAIT_TIMEOUT");
    assert_eq!(error.registration().document_hash, digest.to_string());
}

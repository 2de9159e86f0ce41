//! Certificates: made by the built service from a real node, and checked without either.

mod command_line;
mod endpoints;
mod finality;
mod second_verifier;

use crate::harness::{
    CASE, CallError, EXTERNAL_REGISTRAR, Finality, StackBuilder, TestStack, account, anvil::CHAIN_ID, document,
    http2::frame, registry::registerDocumentCall, rpc::http_client, within,
};
use alloy::primitives::B256;
use futures_util::future::join_all;
use prost::Message;
use registrar::{
    api::proto::{DocumentKey, GetCertificateRequest, GetCertificateResponse, get_certificate_request::Key},
    certificate::{Certificate, Proved},
};
use serde_json::{Value, json};
use tonic::Code;

/// The finalized head is four blocks below the newest one.
const FINAL_AFTER: u64 = 4;

fn builder() -> StackBuilder {
    StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"])
}

fn request(key: Key, min_finality: Finality) -> GetCertificateRequest {
    GetCertificateRequest { key: Some(key), min_finality: min_finality.into() }
}

fn of_pair(number: u64, case: &str, min_finality: Finality) -> GetCertificateRequest {
    let key = DocumentKey { document_hash: document(number), case_id: case.to_owned() };
    request(Key::Document(key), min_finality)
}

async fn certify(stack: &TestStack, min_finality: Finality) -> Result<GetCertificateResponse, CallError> {
    stack.client.certificate(of_pair(1, CASE, min_finality)).await
}

fn verified(response: &GetCertificateResponse) -> (Certificate, Proved) {
    let certificate = Certificate::parse(&response.certificate).unwrap();
    let proved = certificate.verify().unwrap();
    (certificate, proved)
}

async fn block_hash(stack: &TestStack, number: u64) -> B256 {
    let block: Value = stack.anvil.rpc().call("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await;
    block["hash"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_certificate_proves_who_registered_the_document_and_when() {
    let stack = builder().start().await;
    let registration = stack.client.confirm(1, CASE).await;
    stack.anvil.mine(FINAL_AFTER).await;

    let by_id = stack.client.certificate(request(Key::Id(registration.id), Finality::Unspecified)).await.unwrap();
    let by_pair = certify(&stack, Finality::Finalized).await.unwrap();

    assert_eq!(by_id.media_type, "application/vnd.registrar.certificate.v1+json");
    assert_eq!((by_id.finality(), by_pair.finality()), (Finality::Finalized, Finality::Finalized));
    let transaction = registration.transaction.unwrap();
    for response in [by_id, by_pair] {
        let (certificate, proved) = verified(&response);
        assert_eq!(proved.pair.document_hash.to_string(), document(1));
        assert_eq!((proved.pair.case_id.to_string(), proved.contract), (CASE.to_owned(), stack.registry.address));
        assert_eq!((proved.record.registrar, Some(proved.record.block_number)), (account(1), transaction.block_number));
        assert_eq!(proved.record.time, transaction.block_time.unwrap().seconds.unsigned_abs());
        assert_eq!(proved.block_hash, block_hash(&stack, proved.block_number).await);
        assert!(proved.record.block_number <= proved.block_number, "{proved:?}");
        assert_eq!(certificate.transaction.map(|hash| hash.to_string()), Some(transaction.hash.clone()));
        assert_eq!((certificate.chain.id, certificate.block.seen_by), (CHAIN_ID, 1));
        assert!((3_000..10_240).contains(&response.certificate.len()), "{} bytes", response.certificate.len());
    }
}

#[tokio::test]
async fn a_pair_that_another_service_registered_has_a_certificate() {
    let stack = builder().start().await;
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    let receipt = stack.registry.send(account(EXTERNAL_REGISTRAR), call).await;

    let (certificate, proved) = verified(&certify(&stack, Finality::Unsafe).await.unwrap());

    assert_eq!(proved.record.registrar, account(EXTERNAL_REGISTRAR));
    assert_eq!(certificate.transaction, Some(receipt.transaction_hash));
    let not_stored = stack.client.get_pair(&document(1), CASE).await.unwrap_err();
    assert_eq!(not_stored.code, Code::NotFound, "a certificate must not register");
}

#[tokio::test]
async fn each_reason_without_a_certificate_is_named() {
    let stack = builder().start().await;
    let error = async |request| stack.client.certificate(request).await.unwrap_err();
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;

    let not_registered = error(of_pair(1, CASE, Finality::Unsafe)).await;
    assert_eq!(not_registered.kind(), (Code::FailedPrecondition, "NOT_REGISTERED_YET"));
    let by_id = error(request(Key::Id(accepted.id), Finality::Unsafe)).await;
    assert_eq!(by_id.kind(), (Code::FailedPrecondition, "NOT_REGISTERED_YET"));
    let unknown = error(request(Key::Id("0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11".into()), Finality::Unsafe)).await;
    assert_eq!(unknown.kind(), (Code::NotFound, "REGISTRATION_NOT_FOUND"));
    let empty = error(GetCertificateRequest { key: None, min_finality: 9 }).await;
    assert_eq!(empty.field_names(), ["key", "min_finality"]);
    let invalid = DocumentKey { document_hash: "x".into(), case_id: String::new() };
    let invalid = error(request(Key::Document(invalid), Finality::Safe)).await;
    assert_eq!(invalid.field_names(), ["document.case_id", "document.document_hash"]);
    assert_eq!(invalid.kind(), (Code::InvalidArgument, "INVALID_FIELD"));
}

#[tokio::test]
async fn concurrent_calls_for_one_certificate_share_it() {
    let stack = builder().through_proxy().start().await;
    stack.client.confirm(1, CASE).await;

    let all = join_all((0..50).map(|_| certify(&stack, Finality::Unsafe))).await;

    let files: Vec<_> = all.into_iter().map(|response| response.unwrap().certificate).collect();
    assert!(files.iter().all(|file| *file == files[0]));
    assert_eq!(stack.proxy().count("eth_getProof"), 1);
}

#[tokio::test]
async fn browsers_and_workers_get_the_same_file() {
    let stack = builder().start().await;
    stack.client.confirm(1, CASE).await;
    let expected = certify(&stack, Finality::Unsafe).await.unwrap();
    let url = format!("http://{}/registrar.v1.RegistrarService/GetCertificate", stack.service.grpc);
    let post = async |content_type: &str, body: Vec<u8>| {
        let request = http_client().post(&url).header("content-type", content_type).body(body);
        let response = within("an answer", request.send()).await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    let message = of_pair(1, CASE, Finality::Unsafe);

    let json = json!({
        "document": { "documentHash": document(1), "caseId": CASE },
        "minFinality": "FINALITY_UNSAFE",
    });
    let (status, body) = post("application/json", json.to_string().into_bytes()).await;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &answer["mediaType"]), (200, &json!(expected.media_type)), "{answer}");
    let (status, binary) = post("application/proto", message.encode_to_vec()).await;
    assert_eq!(status, 200);
    let (status, web) = post("application/grpc-web+proto", frame(&message).to_vec()).await;
    assert_eq!(status, 200);

    use base64::{Engine, engine::general_purpose::STANDARD};
    let length = u32::from_be_bytes(web[1..5].try_into().unwrap()) as usize;
    for (protocol, file) in [
        ("Connect, JSON", STANDARD.decode(answer["certificate"].as_str().unwrap()).unwrap()),
        ("Connect, binary", GetCertificateResponse::decode(binary).unwrap().certificate),
        ("gRPC-Web", GetCertificateResponse::decode(web.slice(5..5 + length)).unwrap().certificate),
    ] {
        let proved = Certificate::parse(&file).unwrap().verify().unwrap();
        assert_eq!(proved, verified(&expected).1, "{protocol}");
    }
}

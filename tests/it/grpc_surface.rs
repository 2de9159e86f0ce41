//! The rest of the API: service info, verification, diagnosis, health and reflection.

use crate::harness::{
    CASE, Cause, EXTERNAL_REGISTRAR, Fault, Finality, StackBuilder, State, WaitFor, account,
    anvil::CHAIN_ID,
    client::{channel, health},
    document, eventually, register_request,
    registry::registerDocumentCall,
    seconds, within,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

#[tokio::test]
async fn get_service_info_describes_the_server() {
    let builder =
        StackBuilder::on_demand().signers(2).set("REGISTRAR_CONFIRMATIONS", 7).set("REGISTRAR_MAX_WAIT", "90s");
    let stack = builder.set("REGISTRAR_CONFIRMATION_TIMEOUT", "45s").start().await;

    let info = stack.client.info().await;

    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.chain_id, CHAIN_ID);
    assert!(!info.network.is_empty());
    assert_eq!(info.contract_address, stack.registry.address.to_string());
    assert_eq!(info.signer_addresses, [1, 2].map(|number| account(number).to_string()));
    assert_eq!(info.confirmations, 7);
    assert_eq!((info.confirmation_timeout, info.max_wait), (seconds(45), seconds(90)));
}

#[tokio::test]
async fn the_default_on_anvil_is_one_confirmation() {
    let stack = StackBuilder::on_demand().start().await;
    assert_eq!(stack.client.info().await.confirmations, 1);
}

#[tokio::test]
async fn verify_reads_the_chain_and_not_the_store() {
    let stack = StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"]).start().await;
    let unknown = stack.client.verify(&document(1), CASE).await.unwrap();
    assert!(!unknown.registered);
    assert_eq!((unknown.registrar.as_str(), unknown.block_number), ("", None));
    assert_eq!(unknown.contract_address, stack.registry.address.to_string());
    assert_eq!(unknown.chain_id, CHAIN_ID);

    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    let receipt = stack.registry.send(account(EXTERNAL_REGISTRAR), call).await;
    let known = stack.client.verify(&document(1)[2..], CASE).await.unwrap();

    assert!(known.registered);
    assert_eq!((known.document_hash.as_str(), known.case_id.as_str()), (document(1).as_str(), CASE));
    assert_eq!(known.registrar, account(EXTERNAL_REGISTRAR).to_string());
    assert_eq!(known.block_number, receipt.block_number);
    assert_eq!(known.block_hash, receipt.block_hash.unwrap().to_string());
    assert_eq!(known.transaction_hash, receipt.transaction_hash.to_string());
    assert!(known.block_time.is_some());
    assert_eq!((known.confirmations, known.finality()), (Some(1), Finality::Unsafe));
    let not_stored = stack.client.get_pair(&document(1), CASE).await.unwrap_err();
    assert_eq!(not_stored.code, Code::NotFound, "verifying must not register");
    let other_case = stack.client.verify(&document(1), "case-2").await.unwrap();
    assert!(!other_case.registered);

    stack.anvil.mine(4).await;
    let later = eventually("finality", async || {
        let later = stack.client.verify(&document(1), CASE).await.unwrap();
        (later.finality() == Finality::Finalized).then_some(later)
    })
    .await;
    assert_eq!(later.confirmations, Some(5));
}

#[tokio::test]
async fn verify_without_a_node_is_unavailable() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    let _away = stack.proxy().inject_all(Fault::LoseRequest);

    let error = stack.client.verify(&document(1), CASE).await.unwrap_err();

    assert_eq!(error.kind(), (Code::Unavailable, "ALL_RPC_ENDPOINTS_UNAVAILABLE"));
    assert_eq!(error.registration_id, None);
}

#[tokio::test]
async fn a_diagnosis_explains_each_state() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2).start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;

    let pending = stack.client.diagnose(&accepted.id).await.unwrap();
    let diagnosis = pending.diagnosis.unwrap();
    assert_eq!(diagnosis.cause(), Cause::Pending);
    assert!(!diagnosis.explanation.is_empty() && !diagnosis.evidence.is_empty() && diagnosis.time.is_some());

    stack.anvil.mine(1).await;
    stack.client.wait_for_state(&accepted.id, State::Included).await;
    let diagnosis = eventually("the diagnosis of the inclusion", async || {
        let diagnosis = stack.client.diagnose(&accepted.id).await.unwrap().diagnosis?;
        (diagnosis.cause() == Cause::AwaitingConfirmations).then_some(diagnosis)
    })
    .await;
    assert_eq!((&*diagnosis.evidence["confirmations"], &*diagnosis.evidence["confirmationsRequired"]), ("1", "2"));

    stack.anvil.mine(1).await;
    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    // A diagnosis is cached for two seconds.
    let confirmed = eventually("an empty diagnosis", async || {
        Some(stack.client.diagnose(&accepted.id).await.unwrap()).filter(|answer| answer.diagnosis.is_none())
    })
    .await;
    assert_eq!(confirmed.registration.unwrap().state(), State::Confirmed);
}

#[tokio::test]
async fn a_diagnosis_of_blocked_work_names_the_blocker() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;

    let diagnosis = stack.client.diagnose(&accepted.id).await.unwrap().diagnosis.unwrap();

    assert_eq!((diagnosis.cause(), &*diagnosis.evidence["blockedReason"]), (Cause::InsufficientFunds, reason));
    assert!(diagnosis.explanation.contains(&account(1).to_string()), "{}", diagnosis.explanation);
    assert_eq!(diagnosis.evidence["balanceWei"], "0");
}

#[tokio::test]
async fn chain_health_is_separate_from_service_health() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    for name in ["", "registrar.v1.RegistrarService", "chain"] {
        eventually(name, async || (health(stack.service.grpc, name).await == Ok(ServingStatus::Serving)).then_some(()))
            .await;
    }
    assert_eq!(health(stack.service.grpc, "nonsense").await, Err(Code::NotFound));

    let away = stack.proxy().inject_all(Fault::LoseRequest);
    let halted = async || (health(stack.service.grpc, "chain").await == Ok(ServingStatus::NotServing)).then_some(());
    eventually("the chain to be unhealthy", halted).await;
    for name in ["", "registrar.v1.RegistrarService"] {
        assert_eq!(
            health(stack.service.grpc, name).await,
            Ok(ServingStatus::Serving),
            "`{name}` still accepts registrations"
        );
    }
    stack.client.accept(1, CASE).await;

    away.release();
    let back = async || (health(stack.service.grpc, "chain").await == Ok(ServingStatus::Serving)).then_some(());
    eventually("the chain to be healthy", back).await;
}

#[tokio::test]
async fn health_can_be_watched() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    let mut client = HealthClient::new(channel(stack.service.grpc).await);
    let request = HealthCheckRequest { service: "chain".to_owned() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    let mut next = async |expected: ServingStatus| {
        within("a change of health", async { while watch.message().await.unwrap().unwrap().status() != expected {} })
            .await;
    };
    next(ServingStatus::Serving).await;

    let away = stack.proxy().inject_all(Fault::LoseRequest);
    next(ServingStatus::NotServing).await;
    away.release();
    next(ServingStatus::Serving).await;
}

#[tokio::test]
async fn the_admin_server_reports_liveness_and_readiness() {
    let stack = StackBuilder::on_demand().start().await;
    for path in ["/healthz", "/health", "/readyz"] {
        assert_eq!(stack.service.http(path).await.0, 200, "{path}");
    }
    stack.client.confirm(1, CASE).await;
    let (status, metrics) = stack.service.http("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("registrar_registrations_total{outcome=\"confirmed\"} 1"), "{metrics}");
    assert_eq!(stack.service.http("/nonsense").await.0, 404);
}

/// The services that one version of reflection lists.
macro_rules! reflected_services {
    ($stack:expr, $version:ident) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let mut client = ServerReflectionClient::new(channel($stack.service.grpc).await);
        let request =
            |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let requests = futures_util::stream::iter([
            request(MessageRequest::ListServices(String::new())),
            request(MessageRequest::FileContainingSymbol("registrar.v1.RegistrarService".into())),
        ]);
        let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
        let mut next =
            async || within("reflection", answers.message()).await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
        let MessageResponse::FileDescriptorResponse(file) = next().await else { panic!("no descriptor") };
        assert!(!file.file_descriptor_proto.is_empty());
        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    }};
}

#[tokio::test]
async fn reflection_describes_the_service_in_both_versions() {
    let stack = StackBuilder::on_demand().start().await;
    for services in [reflected_services!(stack, v1), reflected_services!(stack, v1alpha)] {
        for name in ["registrar.v1.RegistrarService", "grpc.health.v1.Health"] {
            assert!(services.iter().any(|service| service == name), "{name} in {services:?}");
        }
    }
}

#[tokio::test]
async fn rpc_calls_are_shared_between_registrations() {
    let stack = StackBuilder::block_time(0.2).through_proxy().start().await;
    let before: u64 = stack.proxy().counts().values().sum();
    const COUNT: u64 = 500;

    let calls = (0..COUNT).map(|number| stack.client.register(register_request(number, CASE, WaitFor::Confirmed)));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap().state(), State::Confirmed);
    }

    let counts = stack.proxy().counts();
    let calls = counts.values().sum::<u64>() - before;
    assert!(calls * 10 <= COUNT * 3, "{calls} calls for {COUNT} registrations: {counts:?}");
}

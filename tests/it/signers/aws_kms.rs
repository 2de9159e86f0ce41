//! A key of AWS KMS, on an emulator that signs with a high s half of the time. Run by `make test-kms`.

use crate::harness::{
    CASE, OWNER, StackBuilder, account,
    cli::run,
    document, eventually,
    listener::{PausableListener, ReservedPort},
    process::Process,
    registry::addRegistrarCall,
    rpc::http_client,
};
use alloy::primitives::Address;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle};

const ETHER: u128 = 1_000_000_000_000_000_000;

/// How a request to sign is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Behavior {
    Forward,
    Slow(Duration),
    /// An error of KMS with this code.
    Error(&'static str),
    Silence,
}

/// The emulator, and a front that can answer in its place.
struct Kms {
    front: SocketAddr,
    arn: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    _emulator: Process,
}

struct Shared {
    emulator: String,
    behavior: watch::Sender<Behavior>,
}

impl Kms {
    async fn start(key_spec: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kms/.venv/bin/ministack");
        assert!(program.exists(), "{} is missing: `make test-kms` installs it", program.display());
        let address = {
            // Free once it is dropped; the emulator cannot choose a port itself.
            let port = ReservedPort::new();
            port.address
        };
        let mut command = Command::new(program);
        command.env_clear().envs([
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", std::env::temp_dir().display().to_string()),
            ("BIND_HOST", "127.0.0.1".to_owned()),
            ("GATEWAY_PORT", address.port().to_string()),
            ("SERVICES", "kms".to_owned()),
        ]);
        let emulator = Process::spawn("ministack", &mut command);
        let url = format!("http://{address}");
        eventually("the emulator", async || {
            let health = http_client().get(format!("{url}/_ministack/health")).send().await.ok()?;
            health.status().is_success().then_some(())
        })
        .await;
        let arn = create_key(&url, key_spec).await;
        let shared = Arc::new(Shared { emulator: url, behavior: watch::Sender::new(Behavior::Forward) });
        let router = Router::new().route("/", post(answer)).with_state(shared.clone());
        let listener = PausableListener::bind();
        let front = listener.address;
        let state = shared.behavior.subscribe();
        let serve = move |stream| serve_connection(stream, router.clone());
        let task = tokio::spawn(listener.serve(state, |_| false, || {}, serve));
        Self { front, arn, shared, task, _emulator: emulator }
    }

    fn set(&self, behavior: Behavior) {
        self.shared.behavior.send_replace(behavior);
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("REGISTRAR_SIGNER_KEYS", String::new()),
            ("REGISTRAR_SIGNERS", format!("aws-kms:{}", self.arn)),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.front)),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-aws".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn create_key(url: &str, key_spec: &str) -> String {
    let body = json!({ "KeySpec": key_spec, "KeyUsage": "SIGN_VERIFY" }).to_string();
    let request = http_client().post(url).header("x-amz-target", "TrentService.CreateKey").body(body);
    let created = request.header("content-type", "application/x-amz-json-1.1").send().await.unwrap();
    let created: Value = serde_json::from_str(&created.text().await.unwrap()).unwrap();
    created["KeyMetadata"]["Arn"].as_str().unwrap_or_else(|| panic!("no key: {created}")).to_owned()
}

async fn serve_connection(stream: tokio::net::TcpStream, router: Router) {
    // An error means that the client was killed, or closed the connection.
    let service = TowerToHyperService::new(router);
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers["x-amz-target"].clone();
    let behavior = if target == "TrentService.Sign" { *shared.behavior.borrow() } else { Behavior::Forward };
    match behavior {
        Behavior::Forward => {}
        Behavior::Slow(time) => tokio::time::sleep(time).await,
        Behavior::Error(code) => {
            return (StatusCode::BAD_REQUEST, json!({ "__type": code, "message": "as configured" }).to_string())
                .into_response();
        }
        Behavior::Silence => {
            let mut state = shared.behavior.subscribe();
            let _ = state.wait_for(|behavior| *behavior != Behavior::Silence).await;
        }
    }
    let request = http_client().post(&shared.emulator).header("x-amz-target", target).body(body);
    let answered = request.header("content-type", "application/x-amz-json-1.1").send().await.unwrap();
    (answered.status(), answered.bytes().await.unwrap()).into_response()
}

async fn address(kms: &Kms) -> Address {
    let variables = kms.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let shown = run(&["signer", "address", &format!("aws-kms:{}", kms.arn)], &variables).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    shown.stdout.trim().parse().unwrap()
}

#[tokio::test]
async fn a_key_of_kms_signs_and_its_faults_block_until_they_end() {
    let kms = Kms::start("ECC_SECG_P256K1").await;
    let signer = address(&kms).await;
    let builder = kms
        .variables()
        .into_iter()
        .fold(StackBuilder::block_time(0.2), |builder, (name, value)| builder.set(name, value));
    let (dependencies, settings) = builder.prepare().await;
    dependencies.anvil.set_balance(signer, ETHER).await;
    dependencies.registry.send(account(OWNER), addRegistrarCall { account: signer }).await;
    let stack = dependencies.start(settings).await;
    // Each in a transaction of its own; half of the signatures come with a high s.
    for number in 1..=12 {
        let confirmed = stack.client.confirm(number, CASE).await;
        assert_eq!(confirmed.transaction.unwrap().from_address, signer.to_string());
    }
    let mut number = 12;
    for (behavior, reason, says) in [
        (Behavior::Error("ThrottlingException"), "SIGNER_THROTTLED", "limits the rate"),
        (
            Behavior::Error("AccessDeniedException"),
            "SIGNER_UNAVAILABLE",
            "it refuses: AccessDeniedException: as configured",
        ),
        (Behavior::Error("KMSInternalException"), "SIGNER_UNAVAILABLE", "KMS has an internal error"),
        (Behavior::Error("DisabledException"), "SIGNER_UNAVAILABLE", "it refuses: DisabledException"),
        (Behavior::Silence, "SIGNER_UNAVAILABLE", "did not answer in time"),
    ] {
        number += 1;
        kms.set(behavior);
        let id = stack.client.accept(number, CASE).await.id;
        stack.client.wait_until(&id, reason, |registration| registration.blocked_reason == reason).await;
        let diagnosis = stack.client.diagnose(&id).await.unwrap().diagnosis.unwrap();
        assert!(diagnosis.explanation.contains(says), "{behavior:?}: {diagnosis:?}");
        kms.set(Behavior::Forward);
        stack.client.wait_for_state(&id, crate::harness::State::Confirmed).await;
    }
    kms.set(Behavior::Slow(Duration::from_millis(300)));
    join_all((number + 1..=number + 10).map(|number| stack.client.confirm(number, CASE))).await;
    stack.registry.assert_registered_exactly((1..=number + 10).map(|number| (document(number), CASE.into()))).await;

    let log = stack.service.output().join("\n");
    assert!(!log.contains("s3cr3t-of-aws") && !log.contains("aws_") && !log.contains("alloy_signer"), "{log}");
    let metrics = stack.service.metrics().await;
    let tries = |outcome| {
        let labels = [("backend", "aws_kms"), ("outcome", outcome)];
        metrics.value("registrar_signer_sign_duration_seconds_count", &labels)
    };
    assert_eq!(tries("wrong_answer"), 0.0);
    assert!(tries("ok") >= 12.0 && tries("throttled") >= 1.0 && tries("timeout") >= 1.0 && tries("refused") >= 1.0);
}

#[tokio::test]
async fn a_key_of_another_kind_or_without_an_answer_ends_the_start() {
    let kms = Kms::start("ECC_NIST_P256").await;
    let variables = kms.variables();
    let with = |name: &str, value: &str| -> Vec<(String, String)> {
        let changed = variables.iter().map(|(known, old)| (known.to_string(), old.clone()));
        changed.filter(|(known, _)| known != name).chain([(name.to_owned(), value.to_owned())]).collect()
    };
    let unknown = format!("{}0", &kms.arn[..kms.arn.len() - 1]);
    for (variables, code, says) in [
        (with("", ""), 64, "the key is not of the kind ECC_SECG_P256K1"),
        (with("REGISTRAR_SIGNERS", &format!("aws-kms:{unknown}")), 64, "it refuses: NotFoundException"),
        (with("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), 1, "it cannot be reached (no connection or no credentials)"),
    ] {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let shown = run(&["signer", "address"], &variables).await;
        assert!(shown.code == code && shown.stderr.contains(says), "{says}: {shown:?}");
    }
}

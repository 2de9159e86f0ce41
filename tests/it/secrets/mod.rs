//! No secret leaves the service: secrets are planted in every setting and input, and every output is searched for them.

mod outputs;
mod planted_secrets;

use crate::harness::{
    self, CASE, CallError, Fault, HttpAnswer, OtlpStore, Protocol, SentryStore, Service, StackBuilder, TestStack,
    WaitFor, account,
    cli::run,
    client::with_traceparent,
    document,
    proxy::node_errors::NodeError,
    register_request, register_until_timeout,
    registry::{OWNER, addRegistrarCall},
    remote_signer::RemoteSigner,
    seconds, within,
};
use alloy::signers::local::PrivateKeySigner;
use outputs::Outputs;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use planted_secrets::{Caller, Keystore, Planted, mark, planted};
use proptest::prelude::*;
use registrar::api::proto::{RegisterDocumentRequest, registrar_service_client::RegistrarServiceClient};
use std::{fs, path::Path};
use tonic::{Request, transport::Channel};
use url::Url;

const ETHER: u128 = 1_000_000_000_000_000_000;
/// The caller's trace, so that its tracestate is kept.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

proptest! {
    // Each case starts a service with dozens of secrets.
    #![proptest_config(ProptestConfig {
        cases: 3,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..Default::default()
    })]
    #[test]
    fn no_output_contains_a_planted_secret(planted in planted(), level in prop::sample::select(vec!["info", "trace"])) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut scenario = Scenario::start(&planted, level).await;
            scenario.good_work().await;
            scenario.bad_requests().await;
            scenario.node_messages_with_secrets().await;
            scenario.commands().await;
            let leaks = scenario.end().await.leaks(&planted.needles());
            assert!(leaks.is_empty(), "{leaks:#?}");
        });
    }
}

/// A service with planted secrets, its receivers, and the outputs so far.
struct Scenario<'a> {
    planted: &'a Planted,
    stack: TestStack,
    _remote: RemoteSigner,
    sentry: SentryStore,
    otlp: OtlpStore,
    endpoint: Url,
    caller: RegistrarServiceClient<Channel>,
    outputs: Outputs,
}

impl<'a> Scenario<'a> {
    async fn start(planted: &'a Planted, level: &str) -> Self {
        let (sentry, otlp) = (SentryStore::start(), OtlpStore::start());
        let builder = StackBuilder::on_demand().through_proxy().sentry(&sentry).otlp(&otlp, Protocol::Grpc);
        let (dependencies, settings) = builder.prepare().await;
        let signer: PrivateKeySigner = planted.signer.parse().unwrap();
        dependencies.anvil.set_balance(signer.address(), ETHER).await;
        dependencies.registry.send(account(OWNER), addRegistrarCall { account: signer.address() }).await;
        let endpoint = planted.endpoint(dependencies.proxies[0].url());
        let keystore = dependencies.directory.path().join("signer.json");
        harness::keystore::write(&keystore, &planted.keystore.key, &planted.keystore.password);
        let remote = RemoteSigner::start(4);
        let uri = with_password(&remote.uri(), &planted.keystore.remote_password);
        let callers = dependencies.directory.path().join("callers.toml");
        let token = &planted.caller.token;
        fs::write(&callers, crate::auth::caller("a-service", token, r#""register""#, "")).unwrap();
        let settings = settings
            .set("REGISTRAR_AUTH", "audit")
            .set("REGISTRAR_CALLERS_FILE", callers.display())
            .set("REGISTRAR_SIGNERS", format!("keystore:{},{uri}", keystore.display()))
            .set("REGISTRAR_KEYSTORE_PASSWORD", &planted.keystore.password)
            .set("REGISTRAR_RPC_URLS", &endpoint)
            .set("REGISTRAR_SIGNER_KEYS", &planted.signer)
            .set("OTEL_EXPORTER_OTLP_HEADERS", collectors_headers(planted))
            .set("REGISTRAR_USER_ID_SALT", &planted.salt)
            .set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s")
            .set("RUST_LOG", level);
        let mut outputs = Outputs::default();
        let with_password = database(&dependencies.database(), &planted.database);
        let failed =
            Service::expect_start_failure(&settings.clone().set("REGISTRAR_DATABASE_URL", with_password)).await;
        assert_eq!(failed.code, 64, "{failed:?}");
        outputs.keep_debug("commands", &failed);
        let stack = dependencies.start(settings).await;
        let agent = format!("agent/1 ({}; Bearer {})", planted.caller.mail, planted.caller.bearer);
        let channel =
            Channel::from_shared(format!("http://{}", stack.service.grpc)).unwrap().user_agent(agent).unwrap();
        let caller = RegistrarServiceClient::new(within("a connection", channel.connect()).await.unwrap());
        Self { planted, stack, _remote: remote, sentry, otlp, endpoint, caller, outputs }
    }

    /// A request with all headers that callers and proxies send.
    fn request<T>(&self, message: T) -> Request<T> {
        let Caller { bearer, cookie, api_key, baggage, tracestate, .. } = &self.planted.caller;
        let mut request = with_traceparent(message, TRACEPARENT);
        for (name, value) in [
            ("authorization", format!("Bearer {bearer}")),
            ("proxy-authorization", format!("Basic {bearer}")),
            ("cookie", format!("a=1; session={cookie}")),
            ("x-api-key", api_key.clone()),
            ("baggage", format!("account={baggage}")),
            ("tracestate", format!("vendor={tracestate}")),
        ] {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        request
    }

    async fn register(&mut self, message: RegisterDocumentRequest) {
        let answer = within("an answer", self.caller.clone().register_document(self.request(message))).await;
        self.outputs.keep_debug("grpc", &answer);
        if let Err(status) = answer {
            self.outputs.keep_debug("grpc", &CallError::from(status));
        }
    }

    async fn good_work(&mut self) {
        let Caller { token, jwt, .. } = &self.planted.caller;
        for credentials in [token, jwt] {
            let client = self.stack.client.with_token(credentials);
            self.outputs.keep_debug("grpc", &client.register(register_request(3, CASE, WaitFor::Accepted)).await);
        }
        let is_refused = |line: &serde_json::Value| line["reason"] == "CREDENTIALS_INVALID";
        self.stack.service.wait_for_log("the audit of a JWT", is_refused).await;
        let message = register_until_timeout(1, CASE);
        self.register(RegisterDocumentRequest { user_id: self.planted.caller.user_id.clone(), ..message }).await;
        assert!(self.outputs.have("grpc", &document(1)), "the registration did not succeed");
    }

    /// Secrets in fields that do not expect them.
    async fn bad_requests(&mut self) {
        let Planted { signer, password, .. } = self.planted;
        let Caller { token, jwt, bearer, mail, .. } = &self.planted.caller;
        for text in [
            mail.clone(),
            token.clone(),
            format!("x{token}"),
            jwt.clone(),
            format!("Bearer {bearer}"),
            format!("authorization: {bearer}"),
            format!("{signer}0"),
            format!("{signer}@"),
            self.endpoint.to_string(),
            format!("@{password}"),
        ] {
            let message = register_request(2, CASE, WaitFor::Accepted);
            self.register(RegisterDocumentRequest { document_hash: text.clone(), ..message.clone() }).await;
            self.register(RegisterDocumentRequest { case_id: format!("{text}@"), ..message.clone() }).await;
            self.register(RegisterDocumentRequest { user_id: format!("{text} "), ..message }).await;
        }
    }

    /// Node messages are passed on to callers, the store, Sentry and the log.
    async fn node_messages_with_secrets(&mut self) {
        let words = self.planted.words(&self.endpoint);
        for (number, words) in words.iter().enumerate() {
            let revert = format!("execution reverted: {words}");
            let error = NodeError { code: 3, message: revert.leak(), data: Some("\"0x12345678\"") };
            let injected = self.stack.proxy().inject("eth_call", Fault::Error(error));
            self.register(register_until_timeout(100 + number as u64, CASE)).await;
            injected.release();
            assert!(self.outputs.have("grpc", &mark(number)), "the message was not passed on: {words}");
        }
        // Gateway errors and the diagnosis of them.
        for (number, words) in words.into_iter().enumerate().step_by(4) {
            let error = NodeError { code: -32000, message: words.leak(), data: None };
            let injected = self.stack.proxy().inject_all(match number {
                0 => Fault::Error(error),
                _ => Fault::Http(HttpAnswer::status(500).with_error(error)),
            });
            let message = register_request(200 + number as u64, CASE, WaitFor::Confirmed);
            self.register(RegisterDocumentRequest { wait_timeout: seconds(0), ..message }).await;
            injected.until_hit().await;
            let pair = self.stack.client.get_pair(&document(200 + number as u64), CASE).await.unwrap();
            self.outputs.keep_debug("grpc", &self.stack.client.diagnose(&pair.id).await);
            injected.release();
        }
    }

    /// Output of commands that have secrets in their settings or arguments.
    async fn commands(&mut self) {
        let Planted { signer, password, .. } = self.planted;
        let server = format!("http://{}", self.stack.service.grpc);
        let with_credentials = format!("http://{}:{}@127.0.0.1:1", "someone", self.planted.caller.bearer);
        let pair = self.stack.client.get_pair(&document(100), CASE).await.unwrap();
        for arguments in [
            vec!["explain", &pair.id, "--server", &server],
            vec!["status", &pair.id, "--server", &server],
            vec!["list", "--json", "--server", &server],
            vec!["status", &pair.id, "--server", &with_credentials],
            vec!["register", "no-such-file", "--case", signer, "--server", &server],
            vec!["serve", "--contract-address", signer],
        ] {
            self.outputs.keep_debug("commands", &run(&arguments, &[]).await);
        }
        for (number, words) in self.planted.words(&self.endpoint).into_iter().enumerate().step_by(3) {
            let error = NodeError { code: -32000, message: words.leak(), data: None };
            let injected = self.stack.proxy().inject("eth_estimateGas", Fault::Error(error));
            let settings = [
                ("REGISTRAR_RPC_URLS", self.endpoint.as_str()),
                ("REGISTRAR_CHAIN_ID", "31337"),
                ("REGISTRAR_SIGNER_KEYS", signer),
                ("REGISTRAR_USER_ID_SALT", &self.planted.salt),
                ("SENTRY_DSN", &self.sentry.dsn()),
                ("OTEL_EXPORTER_OTLP_HEADERS", &collectors_headers(self.planted)),
            ];
            let deployed = run(&["deploy"], &settings).await;
            assert!(deployed.stderr.contains(&mark(number)), "{deployed:?}");
            self.outputs.keep_debug("commands", &deployed);
            injected.release();
        }
        let mut invalid = self.stack.settings.clone();
        for (name, value) in [
            ("REGISTRAR_CONTRACT_ADDRESS", signer.as_str()),
            ("REGISTRAR_CHAIN_ID", self.endpoint.as_str()),
            ("REGISTRAR_RPC_URLS", &format!("ftp://someone:{password}@host")),
            ("REGISTRAR_DATABASE_URL", &format!("mysql://someone:{password}@host")),
            ("SENTRY_DSN", &format!("{}/x", self.sentry.dsn())),
            ("REGISTRAR_LISTEN", &format!("Bearer {}", self.planted.caller.bearer)),
        ] {
            invalid = invalid.set(name, value);
        }
        let failed = Service::expect_start_failure(&invalid).await;
        assert_eq!(failed.code, 64, "{failed:?}");
        self.outputs.keep_debug("commands", &failed);
        self.signer_commands().await;
        self.caller_commands(&server).await;
    }

    /// A callers file with a token instead of its hash, and a token in every place.
    async fn caller_commands(&mut self, server: &str) {
        let token = self.planted.caller.token.as_str();
        let file = self.stack.database().with_extension("toml");
        let name = file.to_str().unwrap();
        for text in [
            format!("[[callers]]\nname = \"{token}\"\ntokens = [\"{token}\"]\ncertificates = \"{token}\"\n"),
            format!("[[callers]]\ntokens = [{token}]\n"),
            format!("{token} = 1\n"),
        ] {
            fs::write(&file, text).unwrap();
            self.outputs.keep_debug("commands", &run(&["callers", "check", name], &[]).await);
        }
        for arguments in [
            vec!["list", "--server", server],
            vec!["token", "new", token],
            vec!["list", "--caller", token, "--server", server],
        ] {
            self.outputs.keep_debug("commands", &run(&arguments, &[("REGISTRAR_TOKEN", token)]).await);
        }
    }

    /// Commands and starts with signers that are wrong or silent.
    async fn signer_commands(&mut self) {
        let Keystore { password, key, remote_password } = &self.planted.keystore;
        let uris = self.stack.settings.variables()["REGISTRAR_SIGNERS"].clone();
        let silent = with_password(&format!("web3signer:http://127.0.0.1:1/#{}", account(4)), remote_password);
        let new = self.stack.database().with_extension("json");
        for (arguments, uris, password) in [
            (vec!["signer", "address"], &*uris, &**password),
            (vec!["signer", "address", "--json"], &silent, password),
            (vec!["signer", "address"], &uris, &format!("{password}x")),
            (vec!["signer", "address", key], &uris, password),
            (vec!["signer", "address"], key, password),
            (vec!["signer", "new", "--keystore", new.to_str().unwrap()], "", password),
            (vec!["signer", "new", "--keystore", new.to_str().unwrap()], "", password),
        ] {
            let variables = [("REGISTRAR_SIGNERS", uris), ("REGISTRAR_KEYSTORE_PASSWORD", password)];
            self.outputs.keep_debug("commands", &run(&arguments, &variables).await);
        }
    }

    async fn end(mut self) -> Outputs {
        let (_, metrics) = self.stack.service.http("/metrics").await;
        self.outputs.keep("metrics", metrics);
        self.stack.service.terminate();
        assert_eq!(self.stack.service.exit_code().await, 0);
        self.outputs.keep("log", self.stack.service.output().join("\n"));
        for end in ["", "-wal", "-shm"] {
            let file = format!("{}{end}", self.stack.database().display());
            self.outputs.keep("database", fs::read(file).unwrap_or_default());
        }
        let envelopes = self.sentry.envelopes();
        for envelope in &envelopes {
            self.outputs.keep_debug("envelope headers", &(&envelope.header, &envelope.http));
            for item in &envelope.items {
                self.outputs.keep("envelopes", format!("{}\n{}", item.header, item.payload));
            }
        }
        for span in self.otlp.spans() {
            self.outputs.keep_debug("otlp", &span);
        }
        for name in ["log", "database", "envelopes", "otlp"] {
            for number in 0..self.planted.words(&self.endpoint).len() {
                assert!(self.outputs.have(name, &mark(number)), "{} is missing in {name}", mark(number));
            }
        }
        self.outputs
    }
}

/// The URI of a remote signer with credentials in its URL.
fn with_password(uri: &str, password: &str) -> String {
    let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC);
    uri.replace("http://", &format!("http://someone:{encoded}@"))
}

/// A URL of this file, with a query parameter that another kind of database would read.
fn database(file: &Path, password: &str) -> String {
    format!("sqlite://{}?password={}", file.display(), utf8_percent_encode(password, NON_ALPHANUMERIC))
}

/// The value of `OTEL_EXPORTER_OTLP_HEADERS`.
fn collectors_headers(planted: &Planted) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    format!("authorization=Bearer%20{},x-team={}", encoded(&planted.otlp_bearer), encoded(&planted.otlp_team))
}

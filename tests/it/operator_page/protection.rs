//! Who sees the pages, and what their answers allow.

use super::url;
use crate::{
    auth::caller,
    harness::{StackBuilder, TestStack, browser::check, certificates::Authority, eventually, rpc::http_client},
};
use reqwest::{Client, Method, Response, redirect::Policy};
use serde_json::json;
use std::{fs, net::Ipv4Addr};

const ADMIN: &str = "rgs_CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC";
const READER: &str = "rgs_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
const COOKIE: &str = "__Host-registrar-session=";

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn the_pages_are_read_only_and_their_answers_allow_nothing_of_another_site() {
    let stack = StackBuilder::on_demand().start().await;
    let http = http_client();
    let paths =
        ["/ui/", "/ui/search?q=a", "/ui/registrations/x", "/ui/nothing", "/ui/app.css", "/ui/app.js", "/ui/events"];
    for path in paths {
        let response = http.get(format!("{}{path}", url(&stack))).send().await.unwrap();
        let policy = header(&response, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        let others = ["x-content-type-options", "referrer-policy", "cache-control", "access-control-allow-origin"];
        assert_eq!(others.map(|name| header(&response, name)), ["nosniff", "no-referrer", "no-store", ""], "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        for path in ["/ui/", "/ui/search", "/ui/registrations/x", "/ui/events", "/ui/sign-in"] {
            let response = http.request(method.clone(), format!("{}{path}", url(&stack))).send().await.unwrap();
            assert_eq!(response.status(), 405, "{method} {path}");
        }
    }
    let rebound = http.get(format!("{}/ui/", url(&stack))).header("host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), 421, "a site that resolves its name to this address");
    let (_, page) = stack.service.http("/ui/search?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert!(page.contains("script") && !page.contains("<script>alert"), "{page}");
    let statuses = [("/ui/registrations/x", 404), ("/ui/nothing", 404), ("/ui", 200)];
    for (path, status) in statuses {
        assert_eq!(stack.service.http(path).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn the_page_can_be_switched_off() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_UI", "off").start().await;
    for path in ["/ui/", "/ui/app.js", "/ui/events"] {
        assert_eq!(stack.service.http(path).await.0, 404, "{path}");
    }
    assert_eq!(stack.service.http("/healthz").await.0, 200);
}

#[tokio::test]
async fn at_most_32_pages_are_refreshed_at_once() {
    let stack = StackBuilder::on_demand().start().await;
    let http = http_client();
    let open = || http.get(format!("{}/ui/events", url(&stack))).send();
    let mut streams = Vec::new();
    for _ in 0..32 {
        streams.push(open().await.unwrap());
    }
    assert!(streams.iter().all(|stream| stream.status() == 200));
    let refused = open().await.unwrap();
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after").as_str()), (503, "30"));
    assert_eq!(stack.service.http("/ui/").await.0, 200, "pages are still answered");

    drop(streams.pop());

    eventually("a place is free", async || (open().await.unwrap().status() == 200).then_some(())).await;
}

/// The address of the page for other machines, which this one is as well.
fn remote(stack: &TestStack, scheme: &str) -> String {
    format!("{scheme}://{}:{}", Ipv4Addr::LOCALHOST, stack.service.admin.port())
}

#[tokio::test]
async fn other_machines_see_nothing_without_tls_and_credentials() {
    let builder = StackBuilder::on_demand().set("REGISTRAR_ADMIN_LISTEN", "0.0.0.0:0");
    let stack = builder.set("REGISTRAR_ALLOW_INSECURE", "true").start().await;
    for path in ["/ui/", "/ui/search?q=a", "/ui/events", "/ui/sign-in"] {
        let response = http_client().get(format!("{}{path}", remote(&stack, "http"))).send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains("only with TLS and REGISTRAR_AUTH=enforce"), "{path}: {text}");
    }
}

/// A service that other machines reach, and a client that trusts it and follows no redirect.
struct Remote {
    stack: TestStack,
    http: Client,
    url: String,
    directory: tempfile::TempDir,
}

impl Remote {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.sign("127.0.0.1").write(directory.path(), "server");
        let path = |name: &str| directory.path().join(name);
        let callers = [caller("operates", ADMIN, r#""admin""#, ""), caller("reads", READER, r#""read""#, "")].concat();
        fs::write(path("callers.toml"), callers).unwrap();
        let settings = [
            ("REGISTRAR_ADMIN_LISTEN", "0.0.0.0:0".to_owned()),
            ("REGISTRAR_TLS_CERT_FILE", path("server.crt").display().to_string()),
            ("REGISTRAR_TLS_KEY_FILE", path("server.key").display().to_string()),
            ("REGISTRAR_AUTH", "enforce".to_owned()),
            ("REGISTRAR_CALLERS_FILE", path("callers.toml").display().to_string()),
        ];
        let builder =
            settings.iter().fold(StackBuilder::on_demand(), |builder, (name, value)| builder.set(name, value));
        let (dependencies, settings) = builder.prepare().await;
        let service = crate::harness::Service::start(&settings).await;
        let client = crate::harness::tls_client::connect(service.grpc, &authority, None).await;
        // Installs the cryptography.
        drop(http_client());
        let root = reqwest::Certificate::from_pem(authority.certificate.as_bytes()).unwrap();
        let http = Client::builder().no_proxy().tls_certs_only([root]).redirect(Policy::none()).build().unwrap();
        let stack = dependencies.with_service(settings, service, client);
        let url = remote(&stack, "https");
        Self { stack, http, url, directory }
    }

    async fn get(&self, path: &str, header: Option<(&str, String)>) -> Response {
        let request = self.http.get(format!("{}{path}", self.url));
        let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send().await.unwrap()
    }

    async fn post(&self, form: &str, site: Option<&str>) -> Response {
        let request = self.http.post(format!("{}/ui/sign-in", self.url)).body(form.to_owned());
        let request = site.into_iter().fold(request, |request, site| request.header("sec-fetch-site", site));
        request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap()
    }
}

#[tokio::test]
async fn an_operator_on_another_machine_signs_in_with_a_token() {
    let remote = Remote::start().await;
    let paths = [("/ui/", "/ui/sign-in?next=%2Fui%2F"), ("/ui/search?q=a", "/ui/sign-in?next=%2Fui%2Fsearch%3Fq%3Da")];
    for (path, form) in paths {
        let response = remote.get(path, None).await;
        assert_eq!((response.status().as_u16(), header(&response, "location").as_str()), (303, form));
        assert_eq!(header(&response, "cache-control"), "no-store");
    }
    assert_eq!(remote.get("/ui/events", None).await.status(), 401);
    assert_eq!(remote.get("/ui/app.css", None).await.status(), 200, "the form has its style");
    for cookie in ["abc".to_owned(), ADMIN.to_owned()] {
        let response = remote.get("/ui/", Some(("cookie", format!("{COOKIE}{cookie}")))).await;
        assert_eq!(response.status(), 303, "{cookie}");
    }
    let bearer = |token: &str| Some(("authorization", format!("Bearer {token}")));
    assert_eq!(remote.get("/ui/", bearer(ADMIN)).await.status(), 200, "scripts need no session");
    assert_eq!(remote.get("/ui/", bearer(READER)).await.status(), 303);

    let seen = check(
        "signIn",
        &remote.url,
        &json!({ "path": "/ui/search?q=nothing", "wrong": { "unknown": "rgs_x", "reader": READER }, "token": ADMIN }),
    )
    .await;

    assert_eq!(seen["form"], "/ui/sign-in");
    assert_eq!(seen["answers"]["unknown"], json!({ "status": 401, "problem": "The token is not known." }));
    let lacking = "The caller of this token does not have the scope admin.";
    assert_eq!(seen["answers"]["reader"], json!({ "status": 403, "problem": lacking }));
    let [cookie] = &seen["cookies"].as_array().unwrap()[..] else { panic!("{seen:#}") };
    let flags = ["httpOnly", "secure"].map(|flag| cookie[flag] == true);
    assert_eq!((flags, &cookie["sameSite"], &cookie["path"]), ([true, true], &json!("Strict"), &json!("/")));
    assert!(!cookie["value"].as_str().unwrap().contains("rgs_"), "{cookie}");
    assert_eq!((&seen["script"], &seen["title"]), (&json!(""), &json!("Overview · Registrar")));
    assert_eq!(seen["tokenInAddress"], false);
    let log = remote.stack.service.output().join("\n");
    assert!(!log.contains(ADMIN) && !log.contains(READER) && log.contains("SCOPE_MISSING"), "{log}");
}

#[tokio::test]
async fn a_session_lasts_eight_hours_and_ends_with_its_caller() {
    let remote = Remote::start().await;
    let response = remote.post(&format!("token={ADMIN}&next=%2F%2Fevil.example"), Some("same-origin")).await;
    assert_eq!((response.status().as_u16(), header(&response, "location").as_str()), (303, "/ui/"));
    let cookie = header(&response, "set-cookie");
    assert!(cookie.starts_with(COOKIE), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Max-Age=28800; Secure; HttpOnly; SameSite=Strict"), "{cookie}");
    let session = cookie.split(';').next().unwrap().to_owned();
    let page = async || remote.get("/ui/", Some(("cookie", session.clone()))).await.status().as_u16();
    assert_eq!(page().await, 200);

    assert_eq!(remote.post(&format!("token={ADMIN}"), Some("cross-site")).await.status(), 403);
    assert_eq!(remote.post(&format!("token={}", "x".repeat(20_000)), None).await.status(), 413);
    assert_eq!(remote.post("token=%00", None).await.status(), 401);
    assert_eq!(remote.post("", None).await.status(), 401);

    fs::write(remote.directory.path().join("callers.toml"), caller("reads", READER, r#""read""#, "")).unwrap();
    eventually("the session ends", async || (page().await == 303).then_some(())).await;
}

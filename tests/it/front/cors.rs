//! Web pages of other origins.

use super::{Answer, JSON, call, url};
use crate::harness::{StackBuilder, rpc::http_client};
use reqwest::Method;
use serde_json::json;
use std::net::SocketAddr;

const PAGE: &str = "https://app.example.com";

async fn preflight(server: SocketAddr, origin: &str, headers: &str) -> Answer {
    let request = http_client().request(Method::OPTIONS, url(server, "RegisterDocument"));
    let request = request.header("origin", origin).header("access-control-request-method", "POST");
    Answer::of(request.header("access-control-request-headers", headers)).await
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_call_and_read_errors() {
    let origins = format!("{PAGE}/, http://localhost:5173");
    let stack = StackBuilder::on_demand().set("REGISTRAR_CORS_ORIGINS", origins).start().await;
    let server = stack.service.grpc;
    let asked = "authorization,baggage,connect-protocol-version,connect-timeout-ms,content-type,sentry-trace,\
                 traceparent,tracestate,x-grpc-web,grpc-timeout,x-user-agent";
    for origin in [PAGE, "http://localhost:5173"] {
        let answer = preflight(server, origin, asked).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(origin)), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
        let allowed: Vec<_> = answer.header("access-control-allow-headers").unwrap().split(',').collect();
        assert!(asked.split(',').all(|name| allowed.contains(&name)), "{allowed:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    for (body, content_type, status) in [("{}", JSON.1, 400), ("{}", "text/plain", 415), ("{", JSON.1, 400)] {
        let request = http_client().post(url(server, "RegisterDocument")).header("origin", PAGE);
        let answer = Answer::of(request.header("content-type", content_type).body(body)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, Some(PAGE)), "{answer:?}");
        let exposed: Vec<_> = answer.header("access-control-expose-headers").unwrap().split(',').collect();
        for name in ["x-error-reason", "x-registration-id", "x-trace-id", "www-authenticate", "grpc-status"] {
            assert!(exposed.contains(&name), "{exposed:?}");
        }
        assert!(exposed.contains(&"trailer-x-error-reason"), "{exposed:?}");
        assert!(answer.header("vary").unwrap().contains("origin"));
    }
}

#[tokio::test]
async fn a_page_of_another_origin_may_not_call() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CORS_ORIGINS", PAGE).start().await;
    let server = stack.service.grpc;
    for origin in ["https://evil.example", "http://app.example.com", "https://app.example.com.evil.example", "null"] {
        let answer = preflight(server, origin, "content-type").await;
        assert_eq!(answer.error(), (403, "permission_denied".to_owned(), ""), "{origin}");
        assert!(answer.json()["message"].as_str().unwrap().contains("REGISTRAR_CORS_ORIGINS"));
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
    }
    let request = http_client().post(url(server, "GetServiceInfo")).header("origin", "https://evil.example");
    let answer = Answer::of(request.header(JSON.0, JSON.1).body("{}")).await;
    // It is no page that a browser lets read it.
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
    assert_eq!(call(server, "GetServiceInfo", &json!({})).await.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn without_origins_no_page_may_call() {
    let stack = StackBuilder::on_demand().start().await;
    let answer = preflight(stack.service.grpc, PAGE, "content-type").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
}

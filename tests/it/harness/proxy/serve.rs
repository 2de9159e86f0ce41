//! Serves the proxy's connections and applies the matching fault to each call.

use super::{
    super::listener::PausableListener,
    Fault, Rule, Shared, heads,
    node::{Lost, Node, result},
};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{error::Error, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// Time for written bytes to leave.
const FLUSH_DELAY: Duration = Duration::from_millis(20);

type Answer = Response<BoxBody<Bytes, Lost>>;

pub(super) async fn serve(listener: PausableListener, shared: Arc<Shared>) {
    let refusing = shared.refusing.subscribe();
    listener
        .serve(
            refusing,
            |rules| *rules > 0,
            || shared.on_connections_refused(),
            |stream| serve_connection(stream, shared.clone()),
        )
        .await;
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(&shared, request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error means a deliberate fault, or that the client was killed.
    let ended = (&mut connection).await;
    let lost = ended.as_ref().err().and_then(|error| error.source()?.downcast_ref::<Lost>());
    if let Some(Lost::Reset) = lost {
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Answer, Lost> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Lost::Closed)?.to_bytes();
    let calls = match serde_json::from_slice(&body) {
        Ok(Value::Array(batch)) => batch,
        Ok(call) => vec![call],
        Err(error) => panic!("the service sent invalid JSON: {error}"),
    };
    shared.record(&calls, &head.headers);
    match shared.rule_for(&calls) {
        Some(rule) => apply_fault(shared, &rule, &calls, body).await,
        None => Ok(complete_body(shared.node.forward(body).await?)),
    }
}

/// A rule records its hits when the fault has taken effect.
async fn apply_fault(shared: &Shared, rule: &Rule, calls: &[Value], body: Bytes) -> Result<Answer, Lost> {
    let node = &shared.node;
    let answer = match rule.fault {
        Fault::HoldRequest => {
            rule.record_hit(calls);
            rule.release().await;
            node.forward(body).await
        }
        Fault::HoldResponse => {
            let answer = node.forward(body).await;
            rule.record_hit(calls);
            rule.release().await;
            answer
        }
        Fault::LoseRequest | Fault::RefuseConnections => {
            rule.record_hit(calls);
            Err(Lost::Closed)
        }
        Fault::LoseResponse => {
            node.forward(body).await?;
            rule.record_hit(calls);
            Err(Lost::Closed)
        }
        Fault::TruncateResponse => {
            let answer = node.forward(body).await?;
            rule.record_hit(calls);
            return truncated(answer).await;
        }
        Fault::LoseEverySecondResponse => {
            let answer = node.forward(body).await;
            let lost = rule.next_request().is_multiple_of(2);
            rule.record_hit(calls);
            if lost { Err(Lost::Closed) } else { answer }
        }
        Fault::Reset => {
            rule.record_hit(calls);
            Err(Lost::Reset)
        }
        Fault::Hang => {
            rule.record_hit(calls);
            std::future::pending().await
        }
        Fault::Slow(time) => {
            let answer = node.forward(body).await;
            rule.record_hit(calls);
            tokio::time::sleep(time).await;
            answer
        }
        Fault::Duplicate => {
            node.forward(body.clone()).await?;
            let answer = node.forward(body).await;
            rule.record_hit(calls);
            answer
        }
        Fault::Http(http) => {
            rule.record_hit(calls);
            http.head().body(Full::from(http.body(&calls[0]))).map_err(|_| Lost::Closed)
        }
        Fault::RateLimit { per_second, answer } => {
            let is_over = shared.calls_of_the_last_second() > per_second;
            rule.record_hit(calls);
            match is_over {
                true => answer.head().body(Full::from(answer.body(&calls[0]))).map_err(|_| Lost::Closed),
                false => node.forward(body).await,
            }
        }
        Fault::AlternatelyBehind(_) if !rule.next_request().is_multiple_of(2) => {
            rule.record_hit(calls);
            node.forward(body).await
        }
        Fault::FirstResult(_) if rule.next_request() > 1 => node.forward(body).await,
        Fault::Shaped(shape) => {
            let answer = node.ask(&calls[0]).await?;
            rule.record_hit(calls);
            return shape.apply(&calls[0], answer).await;
        }
        Fault::Error(_)
        | Fault::Result(_)
        | Fault::FirstResult(_)
        | Fault::PreviousAnswer
        | Fault::LogRange(..)
        | Fault::NeverIncludeAbove(_)
        | Fault::WrongBlockHash
        | Fault::Member(..)
        | Fault::FrozenAt(_)
        | Fault::Behind(_)
        | Fault::AlternatelyBehind(_)
        | Fault::Ahead { .. } => {
            let answer = answer_each(shared, rule, calls, body.starts_with(b"[")).await?;
            rule.record_hit(calls);
            let response = Response::builder().header("content-type", "application/json");
            response.body(Full::from(answer.to_string())).map_err(|_| Lost::Closed)
        }
    };
    answer.map(complete_body)
}

/// The first half of an answer, after which the connection closes.
async fn truncated(answer: Response<Full<Bytes>>) -> Result<Answer, Lost> {
    let body = answer.into_body().collect().await.map_err(|never| match never {})?.to_bytes();
    let half = body.slice(..body.len() / 2);
    let end = async {
        // The first half has to be sent before the connection closes.
        tokio::time::sleep(FLUSH_DELAY).await;
        Err(Lost::Closed)
    };
    let broken = stream::iter([Ok(Frame::data(half))]).chain(stream::once(end));
    Ok(Response::new(BodyExt::boxed(StreamBody::new(broken))))
}

fn complete_body(answer: Response<Full<Bytes>>) -> Answer {
    answer.map(|body| body.map_err(|never| match never {}).boxed())
}

/// Accepts a transaction of more than `bytes` bytes without passing it on.
async fn swallow_large(node: &Node, call: &Value, bytes: usize) -> Result<Value, Lost> {
    let raw: alloy::primitives::Bytes = serde_json::from_value(call["params"][0].clone()).unwrap_or_default();
    match raw.len() > bytes {
        true => Ok(result(call, serde_json::json!(alloy::primitives::keccak256(&raw)))),
        false => node.ask(call).await,
    }
}

fn set_member(mut answer: Value, name: &str, json: &str) -> Value {
    if answer["result"].is_object() {
        answer["result"][name] = serde_json::from_str(json).unwrap();
    }
    answer
}

fn wrong_block_hash(mut answer: Value) -> Value {
    let receipt = &mut answer["result"];
    if receipt.is_object() {
        let wrong = serde_json::json!(alloy::primitives::B256::repeat_byte(0xab));
        receipt["blockHash"] = wrong.clone();
        for log in receipt["logs"].as_array_mut().into_iter().flatten() {
            log["blockHash"] = wrong.clone();
        }
    }
    answer
}

/// Answers for the node, call by call.
async fn answer_each(shared: &Shared, rule: &Rule, calls: &[Value], batch: bool) -> Result<Value, Lost> {
    let node = &shared.node;
    let mut answers = Vec::new();
    for call in calls {
        answers.push(match rule.fault {
            _ if !rule.catches(call) => node.ask(call).await?,
            Fault::Error(error) => error.answer(call),
            Fault::Result(json) | Fault::FirstResult(json) => result(call, serde_json::from_str(json).unwrap()),
            Fault::PreviousAnswer => {
                let answer = node.ask(call).await?;
                rule.previous.lock().unwrap().replace(answer.clone()).unwrap_or(answer)
            }
            Fault::LogRange(blocks, error) if heads::log_range(call) > blocks => error.answer(call),
            Fault::NeverIncludeAbove(bytes) => swallow_large(node, call, bytes).await?,
            Fault::WrongBlockHash => wrong_block_hash(node.ask(call).await?),
            Fault::Member(name, json) => set_member(node.ask(call).await?, name, json),
            Fault::FrozenAt(head) => heads::behind(node, call, head).await?,
            Fault::Behind(blocks) | Fault::AlternatelyBehind(blocks) => {
                heads::behind(node, call, node.head().await?.saturating_sub(blocks)).await?
            }
            Fault::Ahead { blocks, seconds } => heads::ahead(node, call, blocks, seconds).await?,
            _ => node.ask(call).await?,
        });
    }
    Ok(if batch { Value::Array(answers) } else { answers.remove(0) })
}

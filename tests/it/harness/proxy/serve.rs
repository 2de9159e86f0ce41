//! The proxy's side of the connections: listening, and doing to each call what the rule says that catches it.

use super::{
    super::door::Door,
    Fault, Rule, Shared, heads,
    node::{Lost, result},
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

/// For what is written to leave.
const A_MOMENT: Duration = Duration::from_millis(20);

type Answer = Response<BoxBody<Bytes, Lost>>;

/// Serves until it is dropped, but for the times when connections are to be refused.
pub(super) async fn serve(door: Door, shared: Arc<Shared>) {
    let refusing = shared.refusing.subscribe();
    door.serve(refusing, |rules| *rules > 0, || shared.refused(), |stream| converse(stream, shared.clone())).await;
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(&shared, request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A connection that ends in an error is one that was lost on purpose, or whose caller was killed.
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
        Err(error) => panic!("the service sends what is no JSON: {error}"),
    };
    shared.see(&calls, &head.headers);
    match shared.rule_for(&calls) {
        Some(rule) => suffer(shared, &rule, &calls, body).await,
        None => Ok(whole(shared.node.forward(body).await?)),
    }
}

/// Does to these calls what the rule says. A rule notes what it has caught when its fault has taken effect.
async fn suffer(shared: &Shared, rule: &Rule, calls: &[Value], body: Bytes) -> Result<Answer, Lost> {
    let node = &shared.node;
    let answer = match rule.fault {
        Fault::HoldRequest => {
            rule.note(calls);
            rule.release().await;
            node.forward(body).await
        }
        Fault::HoldAnswer => {
            let answer = node.forward(body).await;
            rule.note(calls);
            rule.release().await;
            answer
        }
        Fault::LoseRequest | Fault::Refuse => {
            rule.note(calls);
            Err(Lost::Closed)
        }
        Fault::LoseAnswer => {
            node.forward(body).await?;
            rule.note(calls);
            Err(Lost::Closed)
        }
        Fault::BreakOffAnswer => {
            let answer =
                node.forward(body).await?.into_body().collect().await.map_err(|never| match never {})?.to_bytes();
            rule.note(calls);
            let half = answer.slice(..answer.len() / 2);
            let end = async {
                // The first half has to be on its way.
                tokio::time::sleep(A_MOMENT).await;
                Err(Lost::Closed)
            };
            let broken = stream::iter([Ok(Frame::data(half))]).chain(stream::once(end));
            return Ok(Response::new(BodyExt::boxed(StreamBody::new(broken))));
        }
        Fault::LoseEverySecondAnswer => {
            let answer = node.forward(body).await;
            let lost = rule.turn().is_multiple_of(2);
            rule.note(calls);
            if lost { Err(Lost::Closed) } else { answer }
        }
        Fault::Reset => {
            rule.note(calls);
            Err(Lost::Reset)
        }
        Fault::Hang => {
            rule.note(calls);
            std::future::pending().await
        }
        Fault::Slow(time) => {
            let answer = node.forward(body).await;
            rule.note(calls);
            tokio::time::sleep(time).await;
            answer
        }
        Fault::Twice => {
            node.forward(body.clone()).await?;
            let answer = node.forward(body).await;
            rule.note(calls);
            answer
        }
        Fault::Http(http) => {
            rule.note(calls);
            http.head().body(Full::from(http.body(&calls[0]))).map_err(|_| Lost::Closed)
        }
        Fault::BehindEverySecondTime(_) if !rule.turn().is_multiple_of(2) => {
            rule.note(calls);
            node.forward(body).await
        }
        Fault::Error(_)
        | Fault::Result(_)
        | Fault::FrozenAt(_)
        | Fault::Behind(_)
        | Fault::BehindEverySecondTime(_)
        | Fault::Ahead { .. } => {
            let answer = each(shared, rule, calls, body.starts_with(b"[")).await?;
            rule.note(calls);
            let response = Response::builder().header("content-type", "application/json");
            response.body(Full::from(answer.to_string())).map_err(|_| Lost::Closed)
        }
    };
    answer.map(whole)
}

fn whole(answer: Response<Full<Bytes>>) -> Answer {
    answer.map(|body| body.map_err(|never| match never {}).boxed())
}

/// Answers for the node, call by call.
async fn each(shared: &Shared, rule: &Rule, calls: &[Value], batch: bool) -> Result<Value, Lost> {
    let node = &shared.node;
    let mut answers = Vec::new();
    for call in calls {
        answers.push(match rule.fault {
            _ if !rule.catches(call) => node.ask(call).await?,
            Fault::Error(error) => error.answer(call),
            Fault::Result(json) => result(call, serde_json::from_str(json).unwrap()),
            Fault::FrozenAt(head) => heads::behind(node, call, head).await?,
            Fault::Behind(blocks) | Fault::BehindEverySecondTime(blocks) => {
                heads::behind(node, call, node.head().await?.saturating_sub(blocks)).await?
            }
            Fault::Ahead { blocks, seconds } => heads::ahead(node, call, blocks, seconds).await?,
            _ => node.ask(call).await?,
        });
    }
    Ok(if batch { Value::Array(answers) } else { answers.remove(0) })
}

//! An OpenTelemetry collector for traces: gRPC and HTTP with protobuf on one port.

use super::{
    behavior::{Behavior, Discarded, Receiver},
    encoding::Encoding,
    received::Received,
    span::{Ids, Link, Span, SpanEvent},
};
use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    response::IntoResponse,
    routing::post,
};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{self as wire, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message;
use serde_json::{Map, Value};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tonic::{Request, Response, Status, codec::CompressionEncoding, service::Routes};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Grpc,
    /// HTTP/1.1 with protobuf
    Http,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    /// The value of `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
        }
    }
}

pub struct OtlpStore {
    receiver: Receiver,
    recorded: Arc<Recorded>,
}

#[derive(Default)]
struct Recorded {
    spans: Received<Span>,
    partial_success: Mutex<Option<ExportTracePartialSuccess>>,
}

impl OtlpStore {
    pub fn start() -> Self {
        let recorded = Arc::<Recorded>::default();
        let service = TraceServiceServer::from_arc(recorded.clone()).accept_compressed(CompressionEncoding::Gzip);
        let http = Router::new().route("/v1/traces", post(take)).layer(DefaultBodyLimit::disable());
        let router = Routes::new(service).into_axum_router().merge(http.with_state(recorded.clone()));
        Self { receiver: Receiver::start(router), recorded }
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.receiver.address)
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.receiver.address
    }

    pub fn set_behavior(&self, behavior: Behavior) {
        self.receiver.set_behavior(behavior);
    }

    /// Claims in every answer to have rejected this many spans.
    pub fn claim_rejected(&self, rejected_spans: i64, error_message: &str) {
        let answer = ExportTracePartialSuccess { rejected_spans, error_message: error_message.to_owned() };
        *self.recorded.partial_success.lock().unwrap() = Some(answer);
    }

    /// The accepted spans.
    pub fn spans(&self) -> Vec<Span> {
        self.recorded.spans.inspect(<[_]>::to_vec)
    }

    /// Waits for at least `count` matching spans and returns all of them.
    pub async fn spans_where(&self, count: usize, what: &str, is_it: impl Fn(&Span) -> bool) -> Vec<Span> {
        let what = format!("{count} at the collector of: {what}");
        let find = |spans: &[Span]| {
            let all: Vec<_> = spans.iter().filter(|span| is_it(span)).cloned().collect();
            (all.len() >= count).then_some(all)
        };
        self.recorded.spans.until(&what, find).await
    }

    pub async fn span(&self, trace: &str, id: &str) -> Span {
        let is_it = |span: &Span| span.ids.trace == trace && span.ids.span == id;
        self.spans_where(1, &format!("span {id} in trace {trace}"), is_it).await.remove(0)
    }
}

impl Recorded {
    fn take(&self, request: ExportTraceServiceRequest) {
        self.spans.add(request.resource_spans.into_iter().flat_map(spans));
    }

    fn answer(&self) -> ExportTraceServiceResponse {
        ExportTraceServiceResponse { partial_success: self.partial_success.lock().unwrap().clone() }
    }
}

#[tonic::async_trait]
impl TraceService for Recorded {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if request.extensions().get::<Discarded>().is_none() {
            self.take(request.into_inner());
        }
        Ok(Response::new(self.answer()))
    }
}

async fn take(
    State(recorded): State<Arc<Recorded>>,
    discarded: Option<Extension<Discarded>>,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if text("content-type") != Some("application/x-protobuf") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let Ok(encoding) = Encoding::named(text("content-encoding")) else {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    };
    let decoded = encoding.decode(&body).await.unwrap_or_default();
    let Ok(request) = ExportTraceServiceRequest::decode(decoded.as_slice()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if discarded.is_none() {
        recorded.take(request);
    }
    let answer = recorded.answer().encode_to_vec();
    ([("content-type", "application/x-protobuf")], answer).into_response()
}

fn spans(of: wire::ResourceSpans) -> Vec<Span> {
    let resource = attributes(of.resource.map(|resource| resource.attributes).unwrap_or_default());
    let all = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
    all.map(|span| read(span, resource.clone())).collect()
}

fn read(span: wire::Span, resource: Map<String, Value>) -> Span {
    let kind = span.kind();
    let data = attributes(span.attributes);
    let parent = (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id));
    let noted = |event: wire::span::Event| SpanEvent { name: event.name, attributes: attributes(event.attributes) };
    let link = |link: wire::span::Link| Link {
        trace: hex(&link.trace_id),
        span: hex(&link.span_id),
        attributes: attributes(link.attributes),
    };
    Span {
        ids: Ids { trace: hex(&span.trace_id), span: hex(&span.span_id), parent },
        op: data.get("sentry.op").and_then(Value::as_str).unwrap_or_default().to_owned(),
        name: span.name,
        status: span.status.as_ref().map_or("unset".to_owned(), status),
        data,
        links: span.links.into_iter().map(link).collect(),
        start: Duration::from_nanos(span.start_time_unix_nano),
        end: Duration::from_nanos(span.end_time_unix_nano),
        kind: name_of(kind),
        events: span.events.into_iter().map(noted).collect(),
        resource,
    }
}

fn name_of(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

fn status(status: &wire::Status) -> String {
    match status.code() {
        SpanStatus::Unset => "unset".to_owned(),
        SpanStatus::Ok => "ok".to_owned(),
        SpanStatus::Error if status.message.is_empty() => "error".to_owned(),
        SpanStatus::Error => format!("error: {}", status.message),
    }
}

fn attributes(all: Vec<KeyValue>) -> Map<String, Value> {
    all.into_iter().map(|one| (one.key, json(one.value))).collect()
}

fn json(value: Option<AnyValue>) -> Value {
    use any_value::Value as Wire;
    match value.and_then(|value| value.value) {
        None => Value::Null,
        Some(Wire::StringValue(text)) => text.into(),
        Some(Wire::BoolValue(truth)) => truth.into(),
        Some(Wire::IntValue(number)) => number.into(),
        Some(Wire::DoubleValue(number)) => number.into(),
        Some(Wire::ArrayValue(array)) => array.values.into_iter().map(|value| json(Some(value))).collect(),
        Some(Wire::KvlistValue(list)) => Value::Object(attributes(list.values)),
        Some(Wire::BytesValue(bytes)) => hex(&bytes).into(),
        // Used by profiles only.
        Some(Wire::StringValueStrindex(index)) => index.into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    alloy::primitives::hex::encode(bytes)
}

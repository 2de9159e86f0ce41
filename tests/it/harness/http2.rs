//! A client that controls HTTP/2 streams and windows itself.

use super::wait::within;
use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use prost::Message;
use std::net::SocketAddr;
use tokio::{net::TcpStream, task::JoinHandle};

pub struct Http2 {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call whose headers are sent.
pub struct Http2Call {
    pub answer: ResponseFuture,
    pub body: SendStream<Bytes>,
}

/// What a call was answered with.
#[derive(Debug, PartialEq, Eq)]
pub struct Http2Answer {
    pub http: u16,
    pub grpc: Option<i32>,
    pub reason: Option<String>,
    pub message: String,
    pub has_trace_id: bool,
    pub body: Bytes,
}

/// A message with its frame header.
pub fn frame(message: &impl Message) -> Bytes {
    raw_frame(0, &message.encode_to_vec())
}

pub fn raw_frame(flag: u8, message: &[u8]) -> Bytes {
    let mut frame = vec![flag];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame.into()
}

impl Http2 {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &Builder::new()).await
    }

    /// With the windows of `builder`.
    pub async fn connect_with(address: SocketAddr, builder: &Builder) -> Self {
        Self::try_connect_with(address, builder).await.expect("the server ended the connection")
    }

    /// `None` if the server ends the connection.
    pub async fn try_connect_with(address: SocketAddr, builder: &Builder) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        let (requests, connection) = within("the handshake", builder.handshake(stream)).await.ok()?;
        Some(Self { requests, connection: tokio::spawn(connection) })
    }

    /// A gRPC call.
    ///
    /// # Errors
    /// When the server has ended the connection.
    pub async fn call(&mut self, path: &str) -> Result<Http2Call, h2::Error> {
        self.send(http2_request("POST", path, &[("content-type", "application/grpc"), ("te", "trailers")])).await
    }

    pub async fn send(&mut self, request: http::Request<()>) -> Result<Http2Call, h2::Error> {
        within("room for a stream", std::future::poll_fn(|context| self.requests.poll_ready(context))).await?;
        let (answer, body) = self.requests.send_request(request, false)?;
        Ok(Http2Call { answer, body })
    }

    /// Waits until the server has ended the connection.
    pub async fn closed(self) {
        drop(self.requests);
        let _ = within("the end of the connection", self.connection).await;
    }

    pub fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }
}

pub fn http2_request(method: &str, path: &str, headers: &[(&str, &str)]) -> http::Request<()> {
    let mut request = http::Request::builder().method(method).uri(format!("http://registrar{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

impl Http2Call {
    /// Sends the whole body.
    pub async fn finish(mut self, body: Bytes) -> Http2Answer {
        // Fails if the server has answered already.
        let _ = self.body.send_data(body, true);
        self.answered().await
    }

    pub async fn answered(self) -> Http2Answer {
        let response = within("an answer", self.answer).await.unwrap();
        let (head, mut stream) = response.into_parts();
        let body = read_all(&mut stream).await;
        let trailers = within("trailers", stream.trailers()).await.ok().flatten().unwrap_or_default();
        let text = |name: &str| {
            let value = head.headers.get(name).or_else(|| trailers.get(name));
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        Http2Answer {
            http: head.status.as_u16(),
            grpc: text("grpc-status").map(|status| status.parse().unwrap()),
            reason: text("x-error-reason"),
            message: text("grpc-message").unwrap_or_default(),
            has_trace_id: text("x-trace-id").is_some(),
            body,
        }
    }
}

async fn read_all(stream: &mut RecvStream) -> Bytes {
    let mut body = Vec::new();
    while let Some(data) = within("a body", stream.data()).await {
        // The server may reset the rest of a request that it has answered.
        let Ok(data) = data else { break };
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend(data);
    }
    body.into()
}

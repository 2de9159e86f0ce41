//! One port for every caller: gRPC-Web and Connect requests become gRPC calls, which pass the same call layer and the
//! same handlers, and their answers are translated back.
//!
//! Only the form of a call is translated. Its message is read by the call layer ([`ConnectMessage`] says how), so that
//! credentials, places, sizes, times, metrics and spans apply to every protocol.

mod client_body;
mod codec;
mod connect;
mod cors;
mod error;
mod message;
mod methods;
mod protocol;
mod stream;
mod wire;

pub(crate) use cors::AllowedOrigins;
pub(super) use error::error_body;
pub(super) use message::{ConnectMessage, Framing};
pub(super) use methods::Methods;

use client_body::ClientBody;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use protocol::Protocol;
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service};

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Stands before the call layer.
#[derive(Clone, Debug)]
pub(super) struct Front<S> {
    calls: S,
    methods: Arc<Methods>,
    origins: Arc<AllowedOrigins>,
}

impl<S> Front<S> {
    pub(super) fn new(calls: S, methods: Methods, origins: AllowedOrigins) -> Self {
        Self { calls, methods: Arc::new(methods), origins: Arc::new(origins) }
    }
}

impl<S> Service<Request<Incoming>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer> + Clone + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.calls.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let (body, unread) = ClientBody::new(body);
        let body = Body::new(body);
        // The inner service is the one that was polled ready.
        let next = self.calls.clone();
        let mut calls = std::mem::replace(&mut self.calls, next);
        let protocol = Protocol::of(&parts, &self.methods);
        if matches!(protocol, Protocol::Grpc) && parts.version == Version::HTTP_2 {
            return calls.call(Request::from_parts(parts, body));
        }
        let origin = self.origins.of_request(&parts);
        Box::pin(async move {
            let is_http1 = parts.version < Version::HTTP_2;
            let mut response = if origin.is_some() && cors::is_preflight(&parts) {
                cors::preflight_answer()
            } else {
                call_by(protocol, calls, Request::from_parts(parts, body)).await
            };
            if let Some(origin) = origin {
                cors::share_with(origin, response.headers_mut());
            }
            if is_http1 {
                unread.discard().await;
            }
            Ok(response)
        })
    }
}

async fn call_by<S>(protocol: Protocol, mut calls: S, mut request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer> + Clone + Send + 'static,
{
    let Ok(response) = match protocol {
        // The call layer says what is wrong.
        Protocol::Grpc | Protocol::None => calls.call(request).await,
        Protocol::GrpcWeb { is_text } => {
            protocol::prepare_grpc_web(&mut request, is_text);
            GrpcWebLayer::new().layer(calls).call(request).await
        }
        Protocol::Connect(form) => {
            let Ok(response) = calls.call(connect::to_grpc(request, &form)).await;
            Ok(connect::from_grpc(response, &form).await)
        }
    };
    response
}

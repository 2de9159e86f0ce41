//! The gRPC and admin servers, and the only area that names tonic. Requests are decoded, responses encoded and errors
//! turned into a status in one place each.

mod admin;
mod call_metrics;
mod decode;
mod encode;
mod error;
mod health;
mod layer;
mod page_token;
mod server;
mod service;
mod wait;

pub use admin::serve_admin;
pub use server::{ServeError, serve};

use std::{net::SocketAddr, time::Duration};

/// The generated messages, client and server of `registrar.v1`.
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("registrar.v1");

    /// The compiled file descriptors, for reflection and for canonical JSON.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/registrar.fds"));
}

/// Of the gRPC server.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) max_wait: Duration,
    /// Calls and streams that may wait at the same time.
    pub(crate) max_waiters: u64,
}

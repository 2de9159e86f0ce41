//! The only room that names tonic: handlers, proto to domain once, error to status once.

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

/// Where the gRPC server listens and how much it lets wait.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address.
    pub listen: SocketAddr,
    /// The longest a call may wait.
    pub max_wait: Duration,
    /// How many calls and streams may wait at once.
    pub max_waiters: u64,
}

//! The gRPC and admin servers, and the only area that names tonic. Requests are decoded, responses encoded and errors
//! turned into a status in one place each; [`front`] translates the other protocols into gRPC.

mod access;
mod admin;
mod call_metrics;
mod certificate;
mod change_cursor;
mod changes;
mod codec;
mod connections;
mod decode;
mod encode;
mod error;
mod error_detail;
mod fields;
mod front;
mod health;
mod info;
mod layer;
mod limits;
mod message;
mod method;
mod no_certificate;
mod operator_page;
mod page;
mod page_token;
mod reflection_requests;
mod refusal;
mod server;
mod service;
mod ui_sessions;
mod wait;
mod watch;

pub(crate) use admin::{AdminSettings, serve_admin};
pub(crate) use front::AllowedOrigins;
pub use server::ServeError;
pub(crate) use server::serve;

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
    /// Of the gRPC port.
    pub(crate) max_connections: u64,
    pub(crate) max_connection_age: Duration,
    pub(crate) cors_origins: AllowedOrigins,
}

/// The limit of open files of this process; `None` if there is none.
fn open_file_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

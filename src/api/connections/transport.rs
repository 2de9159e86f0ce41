//! The first bytes of a connection: TLS where the port uses it, and a clear answer to a client that expects the
//! opposite.

use crate::{
    auth::{Alpn, HandshakeError, PeerCertificate, ServerTls, TlsStream},
    telemetry::{OngoingCondition, Port},
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::TcpStream,
    time::timeout,
};

/// Of a TLS record with a handshake (RFC 8446, section 5.1). No HTTP request begins with it.
const HANDSHAKE_RECORD: u8 = 0x16;
const TLS_REQUIRED: &str = "this port uses TLS; use https://";
const TLS_ABSENT: &str = "this port does not use TLS; use http://";
/// For a client to read why it is refused.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const MAX_REFUSED_BYTES: u64 = 64 * 1024;
/// A client that cannot connect tries again and again: its next failures are logged at debug level for this long.
const REPEATED_AFTER: Duration = Duration::from_secs(600);

/// How clients of a port connect.
#[derive(Debug)]
pub(in crate::api) struct Transport {
    tls: Option<(ServerTls, Alpn)>,
    mismatch: OngoingCondition,
    failed: OngoingCondition,
}

/// A connection on which HTTP can begin.
pub(super) enum Opened {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Option<PeerCertificate>),
    /// The client was answered.
    Refused,
}

impl Transport {
    pub(in crate::api) fn new(tls: Option<ServerTls>, alpn: Alpn) -> Self {
        let tls = tls.map(|tls| (tls, alpn));
        Self { tls, mismatch: OngoingCondition::new(), failed: OngoingCondition::new() }
    }

    /// In bounded time. The first byte is still to be read.
    pub(super) async fn open(&self, port: Port, stream: TcpStream, first_byte: u8) -> Opened {
        let peer = stream.peer_addr().ok();
        match (&self.tls, first_byte == HANDSHAKE_RECORD) {
            (None, false) => Opened::Plain(stream),
            (Some((tls, alpn)), true) => match tls.accept(*alpn, stream).await {
                Ok((stream, certificate)) => Opened::Tls(Box::new(stream), certificate),
                Err(error) => {
                    self.log_failure(port, peer, &error);
                    Opened::Refused
                }
            },
            (Some(_), false) => {
                let what = "a client without TLS was refused; it has to use https://";
                self.log_mismatch(port, peer, what);
                refuse(stream, TLS_REQUIRED).await;
                Opened::Refused
            }
            (None, true) => {
                let what = "a client with TLS was refused; it has to use http://, or REGISTRAR_TLS_CERT_FILE and \
                            REGISTRAR_TLS_KEY_FILE have to be set here";
                self.log_mismatch(port, peer, what);
                refuse(stream, TLS_ABSENT).await;
                Opened::Refused
            }
        }
    }

    fn log_mismatch(&self, port: Port, peer: Option<SocketAddr>, what: &'static str) {
        if self.mismatch.start_every(REPEATED_AFTER) {
            tracing::warn!(port = port.code(), peer = peer.map(display), "{what}");
        } else {
            tracing::debug!(port = port.code(), peer = peer.map(display), "{what}");
        }
    }

    fn log_failure(&self, port: Port, peer: Option<SocketAddr>, error: &HandshakeError) {
        if self.failed.start_every(REPEATED_AFTER) {
            tracing::warn!(port = port.code(), peer = peer.map(display), %error, "a TLS handshake failed");
        } else {
            tracing::debug!(port = port.code(), peer = peer.map(display), %error, "a TLS handshake failed");
        }
    }
}

/// Says why in the client's own protocol. A client that wanted TLS reports that the server speaks HTTP.
async fn refuse(mut stream: TcpStream, reason: &str) {
    let answered = async {
        let mut begin = [0; 4];
        let length = stream.read(&mut begin).await?;
        let answer = if begin[..length].starts_with(b"PRI") { http2_answer(reason) } else { http1_answer(reason) };
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        // With bytes that are not read, the kernel resets the connection, and the client may lose the answer.
        copy(&mut stream.take(MAX_REFUSED_BYTES), &mut sink()).await
    };
    // A client that does not read its answer gets none.
    let _ = timeout(REFUSAL_TIME, answered).await;
}

fn http1_answer(reason: &str) -> Vec<u8> {
    let length = reason.len() + 1;
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{reason}\n"
    )
    .into_bytes()
}

/// Empty SETTINGS, then GOAWAY with the reason as debug data (RFC 9113, sections 6.5 and 6.8), which gRPC clients show.
fn http2_answer(reason: &str) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: u8 = 7;
    const NO_STREAM: [u8; 4] = [0; 4];
    const INADEQUATE_SECURITY: [u8; 4] = [0, 0, 0, 0xc];
    let length = u8::try_from(NO_STREAM.len() + INADEQUATE_SECURITY.len() + reason.len()).unwrap_or(u8::MAX);
    let header = [0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
    [&SETTINGS[..], &header, &NO_STREAM, &INADEQUATE_SECURITY, reason.as_bytes()].concat()
}

//! Handshakes with the newest good certificate.

use super::{
    certificate::PeerCertificate,
    files::{Contents, Identity, TlsFault, TlsFiles, Verifier},
};
use crate::clock;
use parking_lot::RwLock;
use rustls::{ServerConfig, sign::SingleCertAndKey};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
pub(crate) use tokio_rustls::server::TlsStream;

/// A client on the other side of the world needs two round trips, less than one second.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// For a client to read why it is refused.
const ALERT_TIME: Duration = Duration::from_secs(1);
const MAX_REFUSED_BYTES: u64 = 64 * 1024;

/// What a listener speaks inside TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Alpn {
    Http2AndHttp1,
    Http1,
}

/// TLS of the listeners. Clones share the certificate, which [`ServerTls::run_reload`] replaces.
#[derive(Clone)]
pub(crate) struct ServerTls {
    pub(super) files: Arc<TlsFiles>,
    /// What was read at the start.
    pub(super) first: Arc<Contents>,
    current: Arc<RwLock<Current>>,
}

/// What new connections use.
struct Current {
    parts: Parts,
    http2_and_http1: Arc<ServerConfig>,
    http1: Arc<ServerConfig>,
}

/// Each is replaced by itself: an unusable authority does not keep a new certificate away.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) identity: Identity,
    /// `None` if clients are not asked for a certificate.
    pub(super) verifier: Option<Verifier>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("it took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{0}")]
    Failed(io::Error),
    #[error("the client resumed a session with a certificate that has expired")]
    Expired,
    #[error("the client's certificate cannot be read")]
    Unreadable,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, Vec<TlsFault>> {
        let contents = files.read();
        match (contents.identity(), contents.verifier()) {
            (Ok(identity), Ok(verifier)) => Ok(Self {
                files: Arc::new(files),
                first: Arc::new(contents),
                current: Arc::new(RwLock::new(Current::new(Parts { identity, verifier }))),
            }),
            (identity, verifier) => Err(identity.err().unwrap_or_default().into_iter().chain(verifier.err()).collect()),
        }
    }

    /// The handshake with a client, in bounded time.
    ///
    /// # Errors
    /// When the client is not let in; it has got an alert that says why, as far as TLS has one.
    pub(crate) async fn accept<I>(
        &self,
        alpn: Alpn,
        stream: I,
    ) -> Result<(TlsStream<I>, Option<PeerCertificate>), HandshakeError>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.current.read().config(alpn);
        let handshake = TlsAcceptor::from(config).accept(stream).into_fallible();
        let stream = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, mut stream))) => {
                // With bytes that are not read, the kernel resets the connection, and the client may lose the alert.
                let read = async {
                    stream.shutdown().await?;
                    copy(&mut stream.take(MAX_REFUSED_BYTES), &mut sink()).await
                };
                let _ = timeout(ALERT_TIME, read).await;
                return Err(HandshakeError::Failed(error));
            }
            Err(_) => return Err(HandshakeError::TimedOut),
        };
        let chain = stream.get_ref().1.peer_certificates();
        let peer = chain.and_then(|chain| chain.first()).map(|leaf| PeerCertificate::parse(leaf));
        let peer = peer.transpose().map_err(|_| HandshakeError::Unreadable)?;
        // The certificate of a resumed session is not verified again.
        if peer.as_ref().is_some_and(|peer| peer.not_after < clock::now()) {
            return Err(HandshakeError::Expired);
        }
        Ok((stream, peer))
    }

    pub(super) fn parts(&self) -> Parts {
        self.current.read().parts.clone()
    }

    /// For new connections. Sessions of before cannot be resumed, so every client is verified again.
    pub(super) fn replace(&self, parts: Parts) {
        let new = Current::new(parts);
        *self.current.write() = new;
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.files).finish()
    }
}

impl Current {
    fn new(parts: Parts) -> Self {
        let config = |protocols: &[&[u8]]| {
            let config = ServerConfig::builder();
            let config = match &parts.verifier {
                Some(verifier) => config.with_client_cert_verifier(verifier.clone()),
                None => config.with_no_client_auth(),
            };
            let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(parts.identity.key.clone())));
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        let (http2_and_http1, http1) = (config(&[b"h2", b"http/1.1"]), config(&[b"http/1.1"]));
        Self { parts, http2_and_http1, http1 }
    }

    fn config(&self, alpn: Alpn) -> Arc<ServerConfig> {
        match alpn {
            Alpn::Http2AndHttp1 => self.http2_and_http1.clone(),
            Alpn::Http1 => self.http1.clone(),
        }
    }
}

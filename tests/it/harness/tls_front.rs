//! A TLS server in front of a receiver. It asks for a certificate of the client and checks it.

use super::{certificates::Authority, listener::PausableListener};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

pub struct TlsFront {
    address: SocketAddr,
    task: JoinHandle<()>,
    /// The listener ends with it.
    _state: watch::Sender<()>,
}

impl TlsFront {
    /// Trusts the clients whose certificate the authority signed.
    pub fn start(to: SocketAddr, authority: &Authority, http2: bool) -> Self {
        let provider = Arc::new(crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.root()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let server = authority.sign("127.0.0.1");
        let certificate = CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_client_cert_verifier(clients).with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = PausableListener::bind();
        let address = listener.address;
        let state = watch::Sender::new(());
        let served = state.subscribe();
        let serve = move |stream| serve_connection(stream, to, acceptor.clone());
        let task = tokio::spawn(listener.serve(served, |()| false, || {}, serve));
        Self { address, task, _state: state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_connection(stream: TcpStream, to: SocketAddr, acceptor: TlsAcceptor) {
    // A client that refuses our certificate ends the handshake.
    let Ok(mut client) = acceptor.accept(stream).await else { return };
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

//! Clients that use TLS.

use super::{
    certificates::{Authority, Certificate},
    client::Client,
    wait::within,
};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use tonic::transport::{self, Channel, ClientTlsConfig, Identity};

/// A gRPC client that trusts the authority, and identifies itself with the certificate.
pub async fn connect(address: SocketAddr, authority: &Authority, identity: Option<&Certificate>) -> Client {
    Client::new(within("a connection", channel(address, authority, identity)).await.unwrap())
}

/// # Errors
/// When the handshake fails. With TLS 1.3 a client finds out with its first call that its certificate is refused.
pub async fn channel(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Certificate>,
) -> Result<Channel, transport::Error> {
    let tls = ClientTlsConfig::new().ca_certificate(transport::Certificate::from_pem(&authority.certificate));
    let tls = match identity {
        Some(identity) => tls.identity(Identity::from_pem(&identity.certificate, &identity.key)),
        None => tls,
    };
    Channel::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect().await
}

/// Settings of a client for [`handshake`]; a copy resumes the sessions of the others.
#[derive(Clone)]
pub struct TlsSettings(Arc<ClientConfig>);

impl TlsSettings {
    pub fn new(
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
        authority: &Authority,
        identity: Option<&Certificate>,
    ) -> Self {
        let provider = Arc::new(crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let config = config.with_root_certificates(roots);
        let mut config = match identity {
            Some(identity) => {
                let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }
}

/// # Errors
/// When the handshake fails.
pub async fn handshake(address: SocketAddr, settings: &TlsSettings) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    within("the handshake", TlsConnector::from(settings.0.clone()).connect(name, stream)).await
}

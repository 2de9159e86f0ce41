//! Who may call, and what each caller may do: TLS of the listeners, the callers file, tokens, client certificates,
//! scopes and rates. The only area that names rustls.

mod authenticator;
mod caller;
mod callers_file;
mod credentials;
mod jwt;
mod scope;
mod tls;
mod token;

pub use authenticator::Authenticator;
pub use caller::TooFast;
pub use callers_file::Callers;
pub use credentials::{CredentialsError, Identity};
pub use jwt::FetchError;
pub(crate) use jwt::{JwksSource, JwtSettings, is_allowed_for_keys};
pub use scope::Scope;
pub(crate) use tls::{Alpn, ClientAuth, HandshakeError, PeerCertificate, ServerTls, TlsFault, TlsFiles, TlsStream};
pub use token::NewToken;

use futures_util::future::OptionFuture;
use jwt::JwtVerifier;
use tokio_util::sync::CancellationToken;

/// Who is refused.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mode {
    /// Callers are not identified.
    #[default]
    Off,
    /// Calls that `Enforce` would refuse are answered, and logged and counted.
    Audit,
    Enforce,
}

/// What the listeners protect themselves with.
#[derive(Clone, Debug)]
pub struct Protection {
    /// `None` is plaintext.
    pub(crate) tls: Option<ServerTls>,
    pub(crate) authenticator: Authenticator,
    /// The issuer whose tokens are accepted too.
    pub(crate) jwt: Option<JwtSettings>,
}

impl Protection {
    /// Fetches the issuer's keys.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) async fn start(self) -> Result<Self, FetchError> {
        let jwt = OptionFuture::from(self.jwt.clone().map(JwtVerifier::start)).await.transpose()?;
        Ok(Self { authenticator: self.authenticator.with_jwt(jwt), ..self })
    }

    /// Whether other machines may reach the listeners.
    pub(crate) fn is_complete(&self) -> bool {
        self.tls.is_some() && self.authenticator.mode() == Mode::Enforce
    }

    /// Reads changed files again until `stop`.
    pub(crate) async fn run_reload(self, stop: CancellationToken) {
        let tls = async {
            if let Some(tls) = self.tls {
                tls.run_reload(stop.clone()).await;
            }
        };
        tokio::join!(tls, self.authenticator.run_reload(stop.clone()));
    }
}

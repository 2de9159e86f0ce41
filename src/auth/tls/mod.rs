//! TLS of the listeners.
//!
//! `files` reads certificate, key and CA and names what is wrong with them, `server` does handshakes with the newest
//! good ones, `reload` notices new ones, and `certificate` reads what a certificate says.

mod certificate;
mod files;
mod reload;
mod server;

pub(crate) use certificate::PeerCertificate;
pub(crate) use files::{ClientAuth, TlsFault, TlsFiles};
pub(crate) use server::{Alpn, HandshakeError, ServerTls, TlsStream};

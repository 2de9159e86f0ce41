//! Why a connection with TLS was not made, by the words of the libraries, and what to do about it.

use std::error::Error;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TlsProblem {
    /// The server is called with http:// and uses TLS.
    Required,
    /// The server is called with https:// and does not use TLS.
    Absent,
    UnknownAuthority,
    WrongName,
    Expired,
    NotYetValid,
    InvalidCertificate,
    ClientCertificateMissing,
    ClientCertificateRefused,
    /// Before the first call, for a reason that is lost: probably one of the two before.
    Ended,
    Other,
}

/// Of hyper, for a call that was not sent because its connection had ended.
const NOT_SENT: &str = "operation was canceled";

/// Parts of the messages of rustls, of its alerts, and of the service's answer to a client without TLS.
const WORDS: [(&str, TlsProblem); 18] = [
    ("this port uses TLS", TlsProblem::Required),
    ("InvalidContentType", TlsProblem::Absent),
    ("UnknownIssuer", TlsProblem::UnknownAuthority),
    ("CaUsedAsEndEntity", TlsProblem::UnknownAuthority),
    // An authority with the same name and another key.
    ("BadSignature", TlsProblem::UnknownAuthority),
    ("NotValidForName", TlsProblem::WrongName),
    ("not valid for name", TlsProblem::WrongName),
    ("certificate expired", TlsProblem::Expired),
    ("certificate not valid yet", TlsProblem::NotYetValid),
    ("invalid peer certificate", TlsProblem::InvalidCertificate),
    ("alert: CertificateRequired", TlsProblem::ClientCertificateMissing),
    ("alert: UnknownCA", TlsProblem::ClientCertificateRefused),
    ("alert: BadCertificate", TlsProblem::ClientCertificateRefused),
    ("alert: CertificateExpired", TlsProblem::ClientCertificateRefused),
    ("alert: CertificateUnknown", TlsProblem::ClientCertificateRefused),
    ("alert: DecryptError", TlsProblem::ClientCertificateRefused),
    ("received fatal alert", TlsProblem::Other),
    ("tls handshake", TlsProblem::Other),
];

impl TlsProblem {
    /// `None` if the error has another reason.
    pub(super) fn of(error: &dyn Error) -> Option<Self> {
        let text = with_causes(error);
        WORDS.iter().find(|(words, _)| text.contains(words)).map(|(_, problem)| *problem)
    }

    /// As [`Self::of`], for a call over TLS. With TLS 1.3 a client takes the handshake for finished before the server
    /// has checked its certificate, and a call that begins in between may find the connection without its error.
    pub(super) fn of_call(error: &(dyn Error + 'static)) -> Option<Self> {
        Self::of(error).or_else(|| was_not_sent(error).then_some(Self::Ended))
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Required => "the server uses TLS, and was called without it",
            Self::Absent => "the server does not use TLS",
            Self::UnknownAuthority => "the server's certificate is not signed by a trusted authority",
            Self::WrongName => "the server's certificate is not for this host name",
            Self::Expired => "the server's certificate has expired",
            Self::NotYetValid => "the server's certificate is not valid yet",
            Self::InvalidCertificate => "the server's certificate is not valid",
            Self::ClientCertificateMissing => "the server requires a certificate of its callers",
            Self::ClientCertificateRefused => "the server does not accept the certificate of this command",
            Self::Ended => "the server ended the connection after the TLS handshake",
            Self::Other => "the TLS handshake failed",
        }
    }

    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Required => "use https:// in --server or REGISTRAR_SERVER",
            Self::Absent => "use http:// in --server or REGISTRAR_SERVER, or check that the port is the right one",
            Self::UnknownAuthority => "name the authority that signed it with --ca-file or REGISTRAR_CA_FILE",
            Self::WrongName => "use a host name of the certificate in --server or REGISTRAR_SERVER",
            Self::Expired | Self::InvalidCertificate => "replace the certificate of the server",
            Self::NotYetValid => "check the clocks of this machine and of the one that made the certificate",
            Self::ClientCertificateMissing => "set REGISTRAR_CLIENT_CERT_FILE and REGISTRAR_CLIENT_KEY_FILE",
            Self::Ended => {
                "if it requires a certificate, check REGISTRAR_CLIENT_CERT_FILE and REGISTRAR_CLIENT_KEY_FILE; its \
                 log has the reason"
            }
            Self::ClientCertificateRefused => {
                "check that REGISTRAR_CLIENT_CERT_FILE is valid and signed by an authority that the server trusts \
                 (its REGISTRAR_TLS_CLIENT_CA_FILE)"
            }
            Self::Other => "see the server's log",
        }
    }
}

/// Whether the connection of a call ended before anything of the call was sent.
pub(super) fn was_not_sent(error: &(dyn Error + 'static)) -> bool {
    TlsProblem::of(error).is_none() && with_causes(error).contains(NOT_SENT)
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!("\n{next}"));
        cause = next.source();
    }
    text
}

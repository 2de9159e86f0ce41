//! What a certificate says: names and validity.

use crate::registration::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, error::X509Error, extensions::GeneralName, prelude::FromDer, time::ASN1Time,
};

/// The certificate of a client, whose chain was verified in the handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PeerCertificate {
    /// Subject alternative names exactly as in the certificate: URIs as they are, then DNS names as `dns:NAME`.
    pub(crate) names: Vec<String>,
    pub(crate) not_after: Timestamp,
}

/// When a certificate, or every certificate of a chain, is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl PeerCertificate {
    pub(super) fn parse(der: &[u8]) -> Result<Self, X509Error> {
        let certificate = parse(der)?;
        let names = certificate.subject_alternative_name()?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let uri = |name: &GeneralName<'_>| {
            if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
        };
        let dns_name = |name: &GeneralName<'_>| {
            if let GeneralName::DNSName(name) = name { Some(format!("dns:{name}")) } else { None }
        };
        let names = names.iter().filter_map(uri).chain(names.iter().filter_map(dns_name)).collect();
        Ok(Self { names, not_after: Validity::of(&certificate).not_after })
    }
}

impl Validity {
    /// When all of these are valid; `None` if there is none.
    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Option<Self>, X509Error> {
        let mut whole: Option<Self> = None;
        for der in chain {
            let one = Self::of(&parse(der)?);
            whole = Some(whole.map_or(one, |whole| Self {
                not_before: whole.not_before.max(one.not_before),
                not_after: whole.not_after.min(one.not_after),
            }));
        }
        Ok(whole)
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { not_before: timestamp(validity.not_before), not_after: timestamp(validity.not_after) }
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, X509Error> {
    Ok(X509Certificate::from_der(der)?.1)
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_seconds(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(names: Vec<SanType>, until: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_names_of_a_certificate_are_uris_before_dns_names() {
        let names = vec![
            SanType::DnsName("aaa.internal".try_into().unwrap()),
            SanType::IpAddress([10, 0, 0, 1].into()),
            SanType::Rfc822Name("someone@example.com".try_into().unwrap()),
            SanType::URI("spiffe://prod/ns/aaa/sa/aaa".try_into().unwrap()),
            SanType::DnsName("*.AAA.internal".try_into().unwrap()),
        ];
        let peer = PeerCertificate::parse(&certificate(names, 2040)).unwrap();
        assert_eq!(peer.names, ["spiffe://prod/ns/aaa/sa/aaa", "dns:aaa.internal", "dns:*.AAA.internal"]);
        assert_eq!(peer.not_after, Timestamp::from_seconds(2_208_988_800));
        assert_eq!(PeerCertificate::parse(&certificate(Vec::new(), 2040)).unwrap().names, [""; 0]);
        assert!(PeerCertificate::parse(b"not a certificate").is_err());
    }

    #[test]
    fn a_chain_is_valid_as_long_as_all_of_its_certificates() {
        let chain = [2040, 2035, 2050].map(|year| certificate(Vec::new(), year));
        let validity = Validity::of_chain(&chain).unwrap().unwrap();
        assert_eq!(validity.not_after, Timestamp::from_seconds(2_051_222_400));
        assert_eq!(Validity::of_chain(&[]).unwrap(), None);
    }
}

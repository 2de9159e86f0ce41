//! The certificate of a registration, as a file to download.

use super::page::respond;
use crate::{
    pipeline::{CertificateError, IssuedCertificate},
    registration::RegistrationId,
};
use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_DISPOSITION},
    response::Response,
};

pub(super) fn download(certificate: &IssuedCertificate, id: RegistrationId) -> Response {
    let mut response = respond(StatusCode::OK, certificate.media_type, certificate.text.to_string());
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"certificate-{id}.json\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    response
}

/// Why there is none, and what to do.
pub(super) fn advice(error: &CertificateError) -> String {
    match error {
        CertificateError::Busy => "Too many certificates are being made. Try again.".to_owned(),
        CertificateError::NotRegistered => {
            "The chain has no record of this document and case yet. Try again once it is in a block.".to_owned()
        }
        CertificateError::NotFinal { finality, .. } => {
            format!("No block from which it can be made is {finality} yet. Try again later.")
        }
        CertificateError::ProofUnavailable(problem) => format!("It cannot be made now: {problem}."),
        CertificateError::Call(_) => "No endpoint answers, or the contract is missing.".to_owned(),
    }
}

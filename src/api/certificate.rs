//! `GetCertificate`: whose certificate, and what the caller may see.

use super::{
    access::Access,
    connections::Turn,
    decode::{self, CertificateParams, RegistrationKey},
    encode::encode_finality,
    error::ApiError,
    no_certificate::NoCertificate,
    proto,
};
use crate::{
    pipeline::{CertificateError, IssuedCertificate, Registrar},
    registration::Pair,
};

/// Reads the registration for a call by its id, and then the chain.
pub(super) async fn issue(
    registrar: &Registrar,
    request: proto::GetCertificateRequest,
    access: &Access,
    turn: Option<Turn>,
) -> Result<proto::GetCertificateResponse, ApiError> {
    let CertificateParams { key, min_finality } = decode::decode_certificate(request)?;
    let pair = find(registrar, key, access).await?;
    // It asks the chain.
    drop(turn);
    let issued = registrar.certify(&pair, min_finality).await;
    let IssuedCertificate { text, media_type, finality } = issued.map_err(|error| into_api_error(error, registrar))?;
    Ok(proto::GetCertificateResponse {
        certificate: text.as_bytes().to_vec(),
        media_type: media_type.to_owned(),
        finality: encode_finality(finality).into(),
    })
}

/// A pair that the caller may not see is as one that does not exist, and not as one that is not registered.
async fn find(registrar: &Registrar, key: RegistrationKey, access: &Access) -> Result<Pair, ApiError> {
    let pair = match key {
        RegistrationKey::Pair(pair) => Some(pair),
        RegistrationKey::Id(id) => registrar.get(id).await?.map(|found| found.request.pair),
    };
    pair.filter(|pair| access.sees(&pair.case_id)).ok_or(ApiError::NotFound)
}

fn into_api_error(error: CertificateError, registrar: &Registrar) -> ApiError {
    match error {
        CertificateError::Busy => ApiError::TooManyWaiters,
        CertificateError::NotRegistered => NoCertificate::NotRegistered.into(),
        CertificateError::NotFinal { finality, retry_after } => {
            NoCertificate::NotFinal { finality, retry_after }.into()
        }
        CertificateError::ProofUnavailable(problem) => NoCertificate::ProofUnavailable(problem).into(),
        CertificateError::Call(error) => chain_query_error(error.is_contract_missing(), registrar),
    }
}

/// Of a caller's question to the chain.
pub(super) fn chain_query_error(is_contract_missing: bool, registrar: &Registrar) -> ApiError {
    if is_contract_missing {
        ApiError::NoContract(registrar.contract().to_string())
    } else {
        ApiError::EndpointsUnavailable(None)
    }
}

impl From<NoCertificate> for ApiError {
    fn from(error: NoCertificate) -> Self {
        Self::NoCertificate(error)
    }
}

//! How a call shows who its caller is.

use super::{caller::Caller, jwt::JwtError, token::TokenHash};
use crate::registration::Timestamp;
use http::{HeaderMap, header::AUTHORIZATION};
use std::sync::Arc;

/// A longer one is not looked at: the headers of a call have 16 KiB in all.
const MAX_BEARER_BYTES: usize = 8 * 1024;

/// By what a caller was identified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identification {
    Token,
    Certificate,
    Jwt,
}

impl Identification {
    /// In the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Jwt => "jwt",
        }
    }
}

/// A caller, and the credentials with which it was identified.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) caller: Arc<Caller>,
    pub(super) credential: Credential,
}

/// What has to be known still for the identity to last.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    Token(TokenHash),
    /// A name of the client certificate.
    Certificate {
        name: String,
        not_after: Timestamp,
    },
    Jwt {
        /// `iss|sub`.
        subject: String,
        expires_at: Timestamp,
    },
}

impl Identity {
    /// By what the caller was identified.
    pub fn identification(&self) -> Identification {
        match self.credential {
            Credential::Token(_) => Identification::Token,
            Credential::Certificate { .. } => Identification::Certificate,
            Credential::Jwt { .. } => Identification::Jwt,
        }
    }

    /// When the credentials end by themselves.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match &self.credential {
            Credential::Token(_) => None,
            Credential::Certificate { not_after: end, .. } | Credential::Jwt { expires_at: end, .. } => Some(*end),
        }
    }
}

/// Why a caller is not known. The detail is for the log; it never has a part of the credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("{0}")]
    Missing(&'static str),
    #[error("{0}")]
    Invalid(&'static str),
    /// A token of an issuer may be signed with a key that is newer than those that are known.
    #[error("the token is signed by a key that its issuer does not have")]
    UnknownKey,
    #[error("{0}")]
    Expired(&'static str),
}

impl From<JwtError> for CredentialsError {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::Expired => Self::Expired("the token has expired"),
            JwtError::NotYetValid => Self::Invalid("the token is not valid yet"),
            JwtError::UnknownKey => Self::UnknownKey,
            JwtError::Invalid(detail) => Self::Invalid(detail),
        }
    }
}

/// The token of `authorization: Bearer …` (<https://www.rfc-editor.org/rfc/rfc6750#section-2.1>); `None` without the
/// header.
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, CredentialsError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(CredentialsError::Invalid("more than one authorization header"));
    }
    let Ok(text) = value.to_str() else {
        return Err(CredentialsError::Invalid("an authorization header that is not visible ASCII"));
    };
    let Some((_, token)) = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(CredentialsError::Invalid("an authorization header of another scheme than Bearer"));
    };
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || token.len() > MAX_BEARER_BYTES || !token.bytes().all(is_token) {
        return Err(CredentialsError::Invalid("an authorization header without a well-formed token"));
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_well_formed_bearer_token_is_read() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer_token(&headers).map(|token| token.map(str::to_owned))
        };
        assert_eq!(read(&[]), Ok(None));
        for header in ["Bearer rgs_aB-9", "bearer rgs_aB-9", "BEARER rgs_aB-9"] {
            assert_eq!(read(&[header]), Ok(Some("rgs_aB-9".to_owned())), "{header}");
        }
        let long = format!("Bearer {}", "a".repeat(MAX_BEARER_BYTES + 1));
        for headers in [
            &["Basic dXNlcjpwYXNz"][..],
            &["Bearer"],
            &["Bearer "],
            &["Bearer  rgs_a"],
            &["Bearer rgs a"],
            &["Bearer rgs_a,"],
            &["rgs_a"],
            &[&long],
            &["Bearer rgs_a", "Bearer rgs_a"],
            &[""],
        ] {
            assert!(matches!(read(headers), Err(CredentialsError::Invalid(_))), "{headers:?}");
        }
    }
}

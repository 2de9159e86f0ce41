//! JSON Web Tokens of one issuer (RFC 7519).
//!
//! `fetch` gets the issuer's keys in bounded time and size, `keys` reads them, `signature` is the cryptography, and
//! [`JwtVerifier`] checks tokens with the newest keys.

mod fetch;
mod keys;
mod signature;
mod verifier;

#[cfg(test)]
mod tests;

pub use fetch::FetchError;
pub(crate) use fetch::{JwksSource, is_allowed as is_allowed_for_keys};
pub(crate) use verifier::{JwtError, JwtSettings, JwtVerifier, VerifiedJwt};

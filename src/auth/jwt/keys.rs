//! The public keys of an issuer: a JSON Web Key Set (RFC 7517).

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Those that sign tokens by an algorithm that is accepted.
#[derive(Clone, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    /// Keys of other kinds are left out: an issuer may have them for other purposes. `None` if it is not a key set.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let set: KeySet = serde_json::from_slice(json).ok()?;
        Some(Self(set.keys.into_iter().filter_map(Key::parse).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key with this id; for a token without an id, the only key for its algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        match id {
            Some(id) => self.0.iter().find(|key| key.id.as_deref() == Some(id)),
            None => {
                let mut fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
                fitting.next().filter(|_| fitting.next().is_none())
            }
        }
    }
}

impl Key {
    fn parse(json: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|its| *its != PublicKeyUse::Signature) {
            return None;
        }
        let (algorithm, named) = if let AlgorithmParameters::RSA(_) = &jwk.algorithm {
            (Algorithm::RS256, KeyAlgorithm::RS256)
        } else if let AlgorithmParameters::EllipticCurve(curve) = &jwk.algorithm
            && curve.curve == EllipticCurve::P256
        {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        } else if let AlgorithmParameters::OctetKeyPair(pair) = &jwk.algorithm
            && pair.curve == EllipticCurve::Ed25519
        {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        } else {
            return None;
        };
        if jwk.common.key_algorithm.is_some_and(|its| its != named) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithm, key })
    }
}

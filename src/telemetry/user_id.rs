//! User ids in exported telemetry: as the caller sent them, or, with a salt, a keyed hash that only the holder of the
//! salt can link to a user.

use crate::registration::UserId;
use alloy::primitives::hex;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{fmt, sync::OnceLock};

static SALT: OnceLock<Salt> = OnceLock::new();

/// Enough that no two users of a project share a hash.
const HASH_BYTES: usize = 16;

#[derive(Clone)]
pub(crate) struct Salt(String);

impl Salt {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

pub(super) fn set_salt(salt: Salt) {
    let _ = SALT.set(salt);
}

/// Whether user ids are exported as hashes.
pub(super) fn is_pseudonymized() -> bool {
    SALT.get().is_some()
}

pub(crate) fn exported_user_id(user: &UserId) -> String {
    SALT.get().map_or_else(|| user.as_str().to_owned(), |salt| keyed_hash(salt, user.as_str()))
}

fn keyed_hash(salt: &Salt, id: &str) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt.0.as_bytes()) else { return String::new() };
    mac.update(id.as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..HASH_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hashed_user_id_is_stable_and_depends_on_user_and_salt() {
        let salt = Salt::new("pepper".to_owned());
        let one = keyed_hash(&salt, "user-1");
        assert_eq!(one.len(), 2 * HASH_BYTES);
        // What `printf user-1 | openssl dgst -sha256 -hmac pepper` prints, cut to 32 digits.
        assert_eq!(one, "15da9a772389e8482ecfcc9f5fea6ddb");
        assert_eq!(one, keyed_hash(&salt, "user-1"));
        assert_ne!(one, keyed_hash(&salt, "user-2"));
        assert_ne!(one, keyed_hash(&Salt::new("other".to_owned()), "user-1"));
    }
}

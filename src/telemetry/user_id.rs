//! What is told of end users: the id that the caller gave, or, with a salt, a keyed hash of it that only its holder can link.

use super::Salt;
use crate::registration::UserId;
use alloy::primitives::hex;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::OnceLock;

static SALT: OnceLock<Salt> = OnceLock::new();

/// Bytes of the hash that are shown: enough that no two of a project's users share one.
const HASH_BYTES: usize = 16;

/// From now on ids leave as a hash.
pub(super) fn set_salt(salt: Salt) {
    let _ = SALT.set(salt);
}

/// Whether they do.
pub(super) fn is_pseudonymized() -> bool {
    SALT.get().is_some()
}

/// A user's id as it may leave.
pub fn exported_user_id(user: &UserId) -> String {
    SALT.get().map_or_else(|| user.as_str().to_owned(), |salt| keyed_hash(salt, user.as_str()))
}

fn keyed_hash(salt: &Salt, id: &str) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt.as_bytes()) else { return String::new() };
    mac.update(id.as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..HASH_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hashed_user_stays_the_same_user_and_says_nothing() {
        let salt = Salt::new("pepper".to_owned());
        let one = keyed_hash(&salt, "user-1");
        assert_eq!(one.len(), 2 * HASH_BYTES);
        // What the command in deploy/TRACING.md makes of the same two.
        assert_eq!(one, "15da9a772389e8482ecfcc9f5fea6ddb");
        assert_eq!(one, keyed_hash(&salt, "user-1"));
        assert_ne!(one, keyed_hash(&salt, "user-2"));
        assert_ne!(one, keyed_hash(&Salt::new("other".to_owned()), "user-1"));
    }
}

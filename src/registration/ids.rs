//! Ids of rows in the store.

use super::time::Timestamp;
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// A UUIDv7, so that ids sort by the time of acceptance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationId(Uuid);

/// One transaction of ours through all its attempts; its hash changes with each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(Uuid);

macro_rules! uuid_id {
    ($name:ident) => {
        impl $name {
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// These sort as the ids do.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

impl RegistrationId {
    /// Ids are UUIDv7: one of a registration that was accepted at this time or before is not higher.
    pub fn last_at(accepted: Timestamp) -> Self {
        let millis = u64::try_from(accepted.micros() / 1000).unwrap_or(0).to_be_bytes();
        let mut bytes = [0xff; 16];
        bytes[..6].copy_from_slice(&millis[2..]);
        Self::from_bytes(bytes)
    }
}

uuid_id!(RegistrationId);
uuid_id!(TransactionId);

impl FromStr for RegistrationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

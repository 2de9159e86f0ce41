//! Who asks for a registration.

use std::{fmt, str::FromStr, sync::Arc};

/// Who shares limited places with others: an authenticated caller with all its connections, or else one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallerId(u64);

impl CallerId {
    const AUTHENTICATED: u64 = 1 << 63;

    /// Of the connection with this number.
    pub const fn of_connection(number: u64) -> Self {
        Self(number & !Self::AUTHENTICATED)
    }

    /// Of the authenticated caller with this number, which is never that of a connection.
    pub const fn authenticated(number: u64) -> Self {
        Self(number | Self::AUTHENTICATED)
    }
}

/// The name of an authenticated caller: `[a-z0-9-]{1,63}`. It appears in logs, metrics and the registration's row, never
/// on chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallerName(Arc<str>);

/// The text is not repeated: it may be a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a caller's name: 1 to {} characters of a-z, 0-9 and -", CallerName::MAX_BYTES)]
pub struct InvalidCallerName;

impl CallerName {
    /// As a label of DNS.
    pub const MAX_BYTES: usize = 63;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallerName {
    type Err = InvalidCallerName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        (fits && text.bytes().all(is_allowed)).then(|| Self(text.into())).ok_or(InvalidCallerName)
    }
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many registrations of a caller the database may hold, over all replicas. `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CallerQuota {
    /// Accepted, and neither confirmed nor failed.
    pub max_unfinished: Option<u64>,
    /// Accepted in a UTC day.
    pub daily_limit: Option<u64>,
}

impl CallerQuota {
    /// Whether there is anything to count.
    pub fn is_limited(&self) -> bool {
        *self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_or_refused() {
        for (text, is_name) in [
            ("a", true),
            ("aaa-service-2", true),
            ("x".repeat(63).as_str(), true),
            ("x".repeat(64).as_str(), false),
            ("", false),
            ("A", false),
            ("a_b", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(text.parse::<CallerName>().is_ok(), is_name, "{text:?}");
        }
    }

    #[test]
    fn a_caller_and_a_connection_are_never_the_same() {
        assert_ne!(CallerId::of_connection(7), CallerId::authenticated(7));
        assert_ne!(CallerId::of_connection(7 | CallerId::AUTHENTICATED), CallerId::authenticated(7));
    }
}

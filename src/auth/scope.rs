//! What a caller may do.

use std::str::FromStr;

/// A permission of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Register,
    Read,
    Verify,
    /// All of it, for all cases.
    Admin,
}

impl Scope {
    pub(super) const ALL: [Self; 4] = [Self::Register, Self::Read, Self::Verify, Self::Admin];

    /// As in the callers file.
    pub fn code(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Read => "read",
            Self::Verify => "verify",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|scope| scope.code() == text);
        known.ok_or("is not a scope: use register, read, verify or admin")
    }
}

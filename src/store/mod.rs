//! The only room that names sqlx: what must survive is written here before anything is done or said.

use std::fmt;

/// Which database. The URL may hold a password and is not shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Settings {
    url: String,
}

/// A URL of no database that we can use. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    /// Neither SQLite nor a file name.
    #[error("is no database we can use: give sqlite://FILE, such as sqlite://registrar.db")]
    Scheme,
    /// An SQLite URL without a file, or in memory.
    #[error("names no file: what is accepted has to survive a restart")]
    NoFile,
}

impl Settings {
    /// Reads a database URL.
    ///
    /// # Errors
    /// When it is none that we can use.
    pub fn parse(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        let path = url.strip_prefix("sqlite:").ok_or(InvalidDatabaseUrl::Scheme)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(":memory:") || path.contains("mode=memory") {
            return Err(InvalidDatabaseUrl::NoFile);
        }
        Ok(Self { url: url.to_owned() })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("store::Settings(..)")
    }
}

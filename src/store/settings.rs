//! Which database.

use std::{fmt, path::PathBuf};

/// Which database. The URL may hold a password and is not shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Settings {
    path: PathBuf,
}

/// A URL of no database that we can use. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    /// Not SQLite.
    #[error("is no database we can use: give sqlite://FILE, such as sqlite://registrar.db")]
    Scheme,
    /// An SQLite URL without a file, or in memory.
    #[error("names no file: what is accepted has to survive a restart")]
    NoFile,
}

impl Settings {
    /// Reads a database URL: `sqlite://FILE`, relative to the working directory or absolute.
    ///
    /// # Errors
    /// When it is none that we can use.
    pub fn parse(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        let rest = url.strip_prefix("sqlite:").ok_or(InvalidDatabaseUrl::Scheme)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path.ends_with('/') || path == ":memory:" || query.contains("mode=memory") {
            return Err(InvalidDatabaseUrl::NoFile);
        }
        Ok(Self { path: path.into() })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("store::Settings(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_survives_a_restart() {
        for (url, path) in [
            ("sqlite://registrar.db", "registrar.db"),
            ("sqlite:///var/lib/r.db", "/var/lib/r.db"),
            ("sqlite:r.db?mode=rwc", "r.db"),
        ] {
            assert_eq!(Settings::parse(url).map(|settings| settings.path()), Ok(path.into()), "{url}");
        }
        for url in ["sqlite://", "sqlite::memory:", "sqlite://x?mode=memory", "sqlite:///var/"] {
            assert_eq!(Settings::parse(url), Err(InvalidDatabaseUrl::NoFile), "{url}");
        }
        assert_eq!(Settings::parse("mysql://h/db"), Err(InvalidDatabaseUrl::Scheme));
    }
}

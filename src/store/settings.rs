//! Which database.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::{fmt, path::PathBuf, str::FromStr};
use url::Url;

/// Which database. A server's URL may hold a password and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Settings {
    /// A file of this process alone.
    Sqlite(PathBuf),
    /// The URL of a server that replicas may share.
    Postgres(String),
    /// A file that several replicas of one test share.
    #[cfg(test)]
    SharedFile(PathBuf),
}

/// A URL of no database that we can use. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    /// Neither SQLite nor PostgreSQL.
    #[error(
        "is no database we can use: give sqlite://FILE, such as sqlite://registrar.db, or a postgres:// URL with user, password, \
         host and database"
    )]
    Scheme,
    /// An SQLite URL without a file, or in memory.
    #[error("names no file: what is accepted has to survive a restart")]
    NoFile,
    /// A PostgreSQL URL that cannot be read, or names no database.
    #[error(
        "is no URL of a PostgreSQL database: behind postgres:// it needs a host and a database, and may have user and password, \
         with %40 for an @ in them and so on"
    )]
    Server,
    /// A root certificate that nothing would be held against.
    #[error(
        "names a root certificate (sslrootcert) that nothing is held against: give sslmode=verify-full with it, for without it, or \
         with another sslmode, the server's certificate is not looked at"
    )]
    Unchecked,
}

impl Settings {
    /// Reads a database URL: `sqlite://FILE`, relative to the working directory or absolute, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE` with the parameters that libpq knows, such as `sslmode`.
    ///
    /// # Errors
    /// When it is none that we can use.
    pub fn parse(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(|_| InvalidDatabaseUrl::Server)?;
            options.get_database().filter(|name| !name.is_empty()).ok_or(InvalidDatabaseUrl::Server)?;
            let is_checked = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
            if names_root(url) && !is_checked {
                return Err(InvalidDatabaseUrl::Unchecked);
            }
            return Ok(Self::Postgres(url.to_owned()));
        }
        let rest = url.strip_prefix("sqlite:").ok_or(InvalidDatabaseUrl::Scheme)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path.ends_with('/') || path == ":memory:" || query.contains("mode=memory") {
            return Err(InvalidDatabaseUrl::NoFile);
        }
        Ok(Self::Sqlite(path.into()))
    }
}

/// Whether it says whom to trust, in any of the ways that sqlx reads. libpq would check by that with `sslmode=require` too; sqlx
/// does not.
fn names_root(url: &str) -> bool {
    let is_root = |name: &str| matches!(name, "sslrootcert" | "ssl-root-cert" | "ssl-ca");
    Url::parse(url).is_ok_and(|url| url.query_pairs().any(|(name, _)| is_root(&name)))
}

impl Default for Settings {
    fn default() -> Self {
        Self::Sqlite("registrar.db".into())
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
            assert_eq!(Settings::parse(url), Ok(Settings::Sqlite(path.into())), "{url}");
        }
        for url in ["sqlite://", "sqlite::memory:", "sqlite://x?mode=memory", "sqlite:///var/"] {
            assert_eq!(Settings::parse(url), Err(InvalidDatabaseUrl::NoFile), "{url}");
        }
        assert_eq!(Settings::parse("mysql://h/db"), Err(InvalidDatabaseUrl::Scheme));
    }

    #[test]
    fn a_root_certificate_is_never_named_in_vain() {
        for (query, is_checked) in [
            ("sslmode=verify-full&sslrootcert=/ca.crt", true),
            ("sslrootcert=/ca.crt&sslmode=verify-ca", true),
            ("ssl-root-cert=/ca.crt&ssl-mode=verify-full", true),
            ("sslmode=verify-full", true),
            ("sslmode=require", true),
            ("sslmode=require&sslrootcert=/ca.crt", false),
            ("sslmode=disable&ssl-ca=/ca.crt", false),
            ("sslrootcert=/ca.crt", false),
        ] {
            let read = Settings::parse(&format!("postgres://u:p@h/d?{query}"));
            assert_eq!(read == Err(InvalidDatabaseUrl::Unchecked), !is_checked, "{query}: {read:?}");
        }
    }

    #[test]
    fn what_is_said_of_a_wrong_url_is_not_taken_for_one() {
        use InvalidDatabaseUrl::*;
        for error in [Scheme, NoFile, Server, Unchecked] {
            assert_eq!(crate::telemetry::redact(&error.to_string()), error.to_string());
        }
    }

    #[test]
    fn a_server_is_named_with_its_database() {
        for url in ["postgres://u:p@h:5433/d?sslmode=require", "postgresql://h/d", "postgres:///d?host=/run/postgresql"]
        {
            assert_eq!(Settings::parse(url), Ok(Settings::Postgres(url.to_owned())), "{url}");
        }
        for url in ["postgres://u:p@h", "postgres://u:p@h:port/d", "postgres://h/d?sslmode=perhaps"] {
            let refused = Settings::parse(url);
            assert_eq!(refused, Err(InvalidDatabaseUrl::Server), "{url}");
        }
        assert!(!format!("{:?}", Settings::parse("postgres://u:s3cr3t@h/d")).contains("s3cr3t"));
    }
}

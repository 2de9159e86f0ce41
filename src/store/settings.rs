//! The database URL.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::{fmt, path::PathBuf, str::FromStr};
use url::Url;

/// A server's URL may hold a password: its `Debug` output omits it.
#[derive(Clone, PartialEq, Eq)]
pub enum Settings {
    /// A file that one process uses.
    Sqlite(PathBuf),
    /// The URL of a server that replicas may share.
    Postgres(String),
    /// A file that several replicas of one test share.
    #[cfg(test)]
    SharedFile(PathBuf),
}

/// Why a database URL is rejected. The message never repeats the URL, except for the name of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    #[error(
        "is not a supported database; use sqlite://FILE, such as sqlite://registrar.db, or a postgres:// URL with \
         user, password, host and database"
    )]
    UnsupportedScheme,
    /// An SQLite database in memory is rejected too.
    #[error("names no file; accepted registrations have to survive a restart")]
    MissingFile,
    #[error(
        "is not a valid PostgreSQL URL; after postgres:// it needs a host and a database, and may have a user and a \
         password, percent-encoded (%40 for @)"
    )]
    InvalidServerUrl,
    /// A root certificate that would never be used.
    #[error(
        "names a root certificate (sslrootcert) but does not verify the server's certificate; add sslmode=verify-full"
    )]
    UncheckedRootCertificate,
    /// A parameter that sqlx would ignore.
    #[error(
        "has an unknown parameter{}; supported are {SUPPORTED_PARAMETERS}",
        .0.as_ref().map(|name| format!(" {name}")).unwrap_or_default()
    )]
    UnknownParameter(Option<String>),
    /// sqlx treats it as `disable`.
    #[error("has sslmode=allow, with which TLS is never used here; use verify-full, require, prefer or disable")]
    SslModeAllow,
}

/// Under libpq's names.
const SUPPORTED_PARAMETERS: &str =
    "sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, user, password, dbname, application_name, options";
/// sqlx's other names for them, and a parameter of its own.
const PARAMETER_ALIASES: [&str; 7] =
    ["ssl-mode", "ssl-root-cert", "ssl-ca", "ssl-cert", "ssl-key", "statement-cache-capacity", "options["];

impl Settings {
    /// `sqlite://FILE`, relative to the working directory or absolute, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE` with some of libpq's parameters, such as `sslmode`.
    pub fn parse(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            reject_unknown_parameters(url)?;
            let options = PgConnectOptions::from_str(url).map_err(|_| InvalidDatabaseUrl::InvalidServerUrl)?;
            options.get_database().filter(|name| !name.is_empty()).ok_or(InvalidDatabaseUrl::InvalidServerUrl)?;
            if matches!(options.get_ssl_mode(), PgSslMode::Allow) {
                return Err(InvalidDatabaseUrl::SslModeAllow);
            }
            let is_checked = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
            if has_root_certificate(url) && !is_checked {
                return Err(InvalidDatabaseUrl::UncheckedRootCertificate);
            }
            return Ok(Self::Postgres(url.to_owned()));
        }
        let rest = url.strip_prefix("sqlite:").ok_or(InvalidDatabaseUrl::UnsupportedScheme)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path.ends_with('/') || path == ":memory:" || query.contains("mode=memory") {
            return Err(InvalidDatabaseUrl::MissingFile);
        }
        Ok(Self::Sqlite(path.into()))
    }

    /// Engine and location of the database, without user and password.
    pub(super) fn display_name(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite {}", path.display()),
            // `parse` has rejected an invalid URL.
            Self::Postgres(url) => PgConnectOptions::from_str(url).map_or_else(
                |_| "postgres".to_owned(),
                |options| {
                    let socket = options.get_socket().map(|path| path.display().to_string());
                    let host = socket.unwrap_or_else(|| format!("{}:{}", options.get_host(), options.get_port()));
                    format!("postgres {host}/{}", options.get_database().unwrap_or_default())
                },
            ),
            #[cfg(test)]
            Self::SharedFile(path) => format!("sqlite {}", path.display()),
        }
    }
}

/// sqlx would ignore an unknown parameter and log its value.
fn reject_unknown_parameters(url: &str) -> Result<(), InvalidDatabaseUrl> {
    let Ok(url) = Url::parse(url) else { return Ok(()) };
    let is_read = |name: &str| {
        SUPPORTED_PARAMETERS.split(", ").any(|read| read == name)
            || PARAMETER_ALIASES.iter().any(|read| *read == name || read.ends_with('[') && name.starts_with(read))
    };
    match url.query_pairs().map(|(name, _)| name).find(|name| !is_read(name)) {
        // Text that does not look like a name may be part of a password.
        Some(name) => {
            let is_name =
                name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte));
            Err(InvalidDatabaseUrl::UnknownParameter(is_name.then(|| name.into_owned())))
        }
        None => Ok(()),
    }
}

/// By any of sqlx's names. libpq would verify with `sslmode=require` too; sqlx does not.
fn has_root_certificate(url: &str) -> bool {
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
    fn sqlite_urls_must_name_a_file() {
        for (url, path) in [
            ("sqlite://registrar.db", "registrar.db"),
            ("sqlite:///var/lib/r.db", "/var/lib/r.db"),
            ("sqlite:r.db?mode=rwc", "r.db"),
        ] {
            assert_eq!(Settings::parse(url), Ok(Settings::Sqlite(path.into())), "{url}");
        }
        for url in ["sqlite://", "sqlite::memory:", "sqlite://x?mode=memory", "sqlite:///var/"] {
            assert_eq!(Settings::parse(url), Err(InvalidDatabaseUrl::MissingFile), "{url}");
        }
        assert_eq!(Settings::parse("mysql://h/db"), Err(InvalidDatabaseUrl::UnsupportedScheme));
    }

    #[test]
    fn a_root_certificate_requires_verification() {
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
            assert_eq!(read == Err(InvalidDatabaseUrl::UncheckedRootCertificate), !is_checked, "{query}: {read:?}");
        }
    }

    #[test]
    fn messages_about_an_invalid_url_are_not_redacted_as_urls() {
        use InvalidDatabaseUrl::*;
        for error in [UnsupportedScheme, MissingFile, InvalidServerUrl, UncheckedRootCertificate] {
            assert_eq!(crate::telemetry::redact(&error.to_string()), error.to_string());
        }
    }

    #[test]
    fn a_server_url_must_name_a_database() {
        for url in ["postgres://u:p@h:5433/d?sslmode=require", "postgresql://h/d", "postgres:///d?host=/run/postgresql"]
        {
            assert_eq!(Settings::parse(url), Ok(Settings::Postgres(url.to_owned())), "{url}");
        }
        for url in ["postgres://u:p@h", "postgres://u:p@h:port/d", "postgres://h/d?sslmode=perhaps"] {
            let rejected = Settings::parse(url);
            assert_eq!(rejected, Err(InvalidDatabaseUrl::InvalidServerUrl), "{url}");
        }
        assert!(!format!("{:?}", Settings::parse("postgres://u:s3cr3t@h/d")).contains("s3cr3t"));
    }

    #[test]
    fn an_unknown_parameter_is_rejected_by_name_without_its_value() {
        let rejected = |query: &str| Settings::parse(&format!("postgres://u:p@h/d?{query}")).unwrap_err();
        let unknown = rejected("sslmode=require&connect_timeout=s3cr3t");
        assert_eq!(unknown, InvalidDatabaseUrl::UnknownParameter(Some("connect_timeout".to_owned())));
        assert!(
            unknown.to_string().contains("connect_timeout") && !unknown.to_string().contains("s3cr3t"),
            "{unknown}"
        );
        assert_eq!(rejected("S3cr3t"), InvalidDatabaseUrl::UnknownParameter(None));
        assert_eq!(rejected("sslmode=allow"), InvalidDatabaseUrl::SslModeAllow);
        let read = "application_name=r&options=-c%20work_mem%3D8MB&options[work_mem]=8MB&hostaddr=127.0.0.1&user=u\
                    &password=p&port=1&dbname=d&ssl-cert=/c&sslkey=/k&statement-cache-capacity=9";
        assert!(Settings::parse(&format!("postgres://h/d?{read}")).is_ok());
    }
}

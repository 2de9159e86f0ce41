//! The database URL.

use super::servers::split_hosts;
use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};
use url::{Url, form_urlencoded};

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
    #[error("is not text after percent-decoding; name a file whose name is UTF-8, with % itself written as %25")]
    UndecodableFile,
    /// SQLite would read parameters of its own from it.
    #[error("names the file in SQLite's URI form (file:); use sqlite://FILE")]
    SqliteUri,
    #[error(
        "has {}that an SQLite file does not take: it is always opened for writing and created if missing; remove it",
        .0.as_ref().map_or_else(|| "a parameter ".to_owned(), |name| format!("the parameter {name} "))
    )]
    SqliteParameter(Option<String>),
    /// A root certificate that would never be used.
    #[error(
        "names a root certificate (sslrootcert) but does not verify the server's certificate; add sslmode=verify-full"
    )]
    UncheckedRootCertificate,
    #[error(
        "lists several hosts or ports in a parameter; list them in the address: \
         postgres://user:password@host1:5432,host2:5432/database"
    )]
    HostListParameter,
    #[error("lists more than {MAX_HOSTS} hosts; list the servers that may become the primary")]
    TooManyHosts,
    #[error("has target_session_attrs={0}, but the service writes: remove it or use read-write")]
    ReadOnlySession(&'static str),
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

/// Each is connected to while the one in use cannot be written.
const MAX_HOSTS: usize = 8;
/// Under libpq's names.
const SUPPORTED_PARAMETERS: &str = "sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, user, password, \
     dbname, application_name, options, target_session_attrs";
/// sqlx's other names for them, and a parameter of its own.
const PARAMETER_ALIASES: [&str; 7] =
    ["ssl-mode", "ssl-root-cert", "ssl-ca", "ssl-cert", "ssl-key", "statement-cache-capacity", "options["];

impl Settings {
    /// `sqlite://FILE`, relative to the working directory or absolute, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE` with some of libpq's parameters, such as `sslmode`.
    pub fn parse(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return parse_postgres(url);
        }
        parse_sqlite(url)
    }

    /// Engine and location of the database, without user and password.
    pub(super) fn display_name(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite {}", path.display()),
            // `parse` has rejected an invalid URL.
            Self::Postgres(url) => {
                let servers = split_hosts(url);
                let servers: Vec<_> = servers.iter().flat_map(|url| PgConnectOptions::from_str(url)).collect();
                let hosts: Vec<_> = servers.iter().map(host_name).collect();
                let database = servers.first().and_then(PgConnectOptions::get_database).unwrap_or_default();
                format!("postgres {}/{database}", hosts.join(","))
            }
            #[cfg(test)]
            Self::SharedFile(path) => format!("sqlite {}", path.display()),
        }
    }
}

fn host_name(options: &PgConnectOptions) -> String {
    let socket = options.get_socket().map(|path| path.display().to_string());
    socket.unwrap_or_else(|| format!("{}:{}", options.get_host(), options.get_port()))
}

/// Several hosts, of which one is the primary at a time, share everything else.
fn parse_postgres(url: &str) -> Result<Settings, InvalidDatabaseUrl> {
    let url = &without_session_attributes(url)?;
    let servers = split_hosts(url);
    if servers.len() > MAX_HOSTS {
        return Err(InvalidDatabaseUrl::TooManyHosts);
    }
    let lists_hosts = servers.len() > 1;
    for url in &servers {
        if has_host_list_parameter(url) {
            return Err(InvalidDatabaseUrl::HostListParameter);
        }
        reject_unknown_parameters(url)?;
        let options = PgConnectOptions::from_str(url).map_err(|_| InvalidDatabaseUrl::InvalidServerUrl)?;
        options.get_database().filter(|name| !name.is_empty()).ok_or(InvalidDatabaseUrl::InvalidServerUrl)?;
        if lists_hosts && Url::parse(url).ok().and_then(|url| url.host_str().map(str::is_empty)) != Some(false) {
            return Err(InvalidDatabaseUrl::InvalidServerUrl);
        }
        if matches!(options.get_ssl_mode(), PgSslMode::Allow) {
            return Err(InvalidDatabaseUrl::SslModeAllow);
        }
        let is_checked = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        if has_root_certificate(url) && !is_checked {
            return Err(InvalidDatabaseUrl::UncheckedRootCertificate);
        }
    }
    Ok(Settings::Postgres(url.clone()))
}

/// The path is percent-decoded here, once, so that it means the same to the lock, to the checks and to SQLite.
fn parse_sqlite(url: &str) -> Result<Settings, InvalidDatabaseUrl> {
    let rest = url.strip_prefix("sqlite:").ok_or(InvalidDatabaseUrl::UnsupportedScheme)?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = percent_decode_str(path).decode_utf8().map_err(|_| InvalidDatabaseUrl::UndecodableFile)?;
    if path.is_empty() || path.ends_with('/') || path == ":memory:" || query.contains("mode=memory") {
        return Err(InvalidDatabaseUrl::MissingFile);
    }
    if path.starts_with("file:") {
        return Err(InvalidDatabaseUrl::SqliteUri);
    }
    if path.contains('\0') {
        return Err(InvalidDatabaseUrl::UndecodableFile);
    }
    let has_effect =
        |(name, value): &(Cow<'_, str>, Cow<'_, str>)| !(name == "mode" && (value == "rwc" || value == "rw"));
    match form_urlencoded::parse(query.as_bytes()).find(has_effect) {
        Some((name, _)) => Err(InvalidDatabaseUrl::SqliteParameter(parameter_name(&name))),
        None => Ok(Settings::Sqlite(path.into_owned().into())),
    }
}

/// Text that does not look like a name may be part of a password.
fn parameter_name(name: &str) -> Option<String> {
    let is_name = name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte));
    is_name.then(|| name.to_owned())
}

/// libpq's other form of a list of hosts.
fn has_host_list_parameter(url: &str) -> bool {
    let is_list = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
        ["host", "hostaddr", "port"].contains(&&*name) && value.contains(',')
    };
    Url::parse(url).is_ok_and(|url| url.query_pairs().any(is_list))
}

/// Without `target_session_attrs`, which sqlx would ignore: every session is asked whether it may write.
fn without_session_attributes(url: &str) -> Result<String, InvalidDatabaseUrl> {
    let Some((address, query)) = url.split_once('?') else { return Ok(url.to_owned()) };
    let is_attribute = |parameter: &str| parameter.starts_with("target_session_attrs=");
    let Some(value) = query.split('&').find_map(|parameter| parameter.strip_prefix("target_session_attrs=")) else {
        return Ok(url.to_owned());
    };
    if let Some(other) = ["read-only", "standby", "prefer-standby"].into_iter().find(|other| value == *other) {
        return Err(InvalidDatabaseUrl::ReadOnlySession(other));
    }
    if !["any", "read-write", "primary"].contains(&value) {
        return Err(InvalidDatabaseUrl::InvalidServerUrl);
    }
    let others: Vec<_> = query.split('&').filter(|parameter| !is_attribute(parameter)).collect();
    Ok(if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) })
}

/// sqlx would ignore an unknown parameter and log its value.
fn reject_unknown_parameters(url: &str) -> Result<(), InvalidDatabaseUrl> {
    let Ok(url) = Url::parse(url) else { return Ok(()) };
    let is_read = |name: &str| {
        SUPPORTED_PARAMETERS.split(", ").any(|read| read == name)
            || PARAMETER_ALIASES.iter().any(|read| *read == name || read.ends_with('[') && name.starts_with(read))
    };
    match url.query_pairs().map(|(name, _)| name).find(|name| !is_read(name)) {
        Some(name) => Err(InvalidDatabaseUrl::UnknownParameter(parameter_name(&name))),
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
            ("sqlite://r%2Ddev.db", "r-dev.db"),
            ("sqlite:///srv/my files/r%20%231.db", "/srv/my files/r #1.db"),
            ("sqlite://100%.db", "100%.db"),
            ("sqlite://%3Amemory%3A.db", ":memory:.db"),
        ] {
            assert_eq!(Settings::parse(url), Ok(Settings::Sqlite(path.into())), "{url}");
        }
        for url in ["sqlite://", "sqlite::memory:", "sqlite://x?mode=memory", "sqlite:///var/"] {
            assert_eq!(Settings::parse(url), Err(InvalidDatabaseUrl::MissingFile), "{url}");
        }
        for (url, rejected) in [
            ("mysql://h/db", InvalidDatabaseUrl::UnsupportedScheme),
            ("sqlite:file:r.db?mode=rwc", InvalidDatabaseUrl::SqliteUri),
            ("sqlite://file%3Ar.db", InvalidDatabaseUrl::SqliteUri),
            ("sqlite://r%FF.db", InvalidDatabaseUrl::UndecodableFile),
            ("sqlite://r.db%00.txt", InvalidDatabaseUrl::UndecodableFile),
            ("sqlite://%3Amemory%3A", InvalidDatabaseUrl::MissingFile),
            ("sqlite://r.db?mode=ro", InvalidDatabaseUrl::SqliteParameter(Some("mode".to_owned()))),
            ("sqlite://r.db?immutable=1", InvalidDatabaseUrl::SqliteParameter(Some("immutable".to_owned()))),
            ("sqlite://r.db?mode=rwc&Hunter2", InvalidDatabaseUrl::SqliteParameter(None)),
        ] {
            assert_eq!(Settings::parse(url), Err(rejected), "{url}");
        }
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
    fn an_address_leads_to_one_server_that_may_be_written() {
        for attribute in ["read-write", "primary", "any"] {
            let read = Settings::parse(&format!("postgres://h/d?sslmode=require&target_session_attrs={attribute}"));
            assert_eq!(read, Ok(Settings::Postgres("postgres://h/d?sslmode=require".to_owned())));
        }
        for (url, rejected) in [
            ("postgres://h/d?target_session_attrs=standby", InvalidDatabaseUrl::ReadOnlySession("standby")),
            ("postgres://h/d?target_session_attrs=s3cr3t", InvalidDatabaseUrl::InvalidServerUrl),
            ("postgres:///d?host=a,b", InvalidDatabaseUrl::HostListParameter),
            ("postgres://a/d?port=5432,5433", InvalidDatabaseUrl::HostListParameter),
            ("postgres://a,b,c,d,e,f,g,h,i/d", InvalidDatabaseUrl::TooManyHosts),
            ("postgres://a,,b/d", InvalidDatabaseUrl::InvalidServerUrl),
            ("postgres://a,b:port/d", InvalidDatabaseUrl::InvalidServerUrl),
            ("postgres://a,b/d?s3cr3t=1", InvalidDatabaseUrl::UnknownParameter(None)),
        ] {
            assert_eq!(Settings::parse(url), Err(rejected), "{url}");
        }
        let several = "postgres://u:p@a:5433,b/d?target_session_attrs=read-write";
        let several = Settings::parse(several).unwrap();
        assert_eq!(several, Settings::Postgres("postgres://u:p@a:5433,b/d".to_owned()));
        assert_eq!(several.display_name(), "postgres a:5433,b:5432/d");
        assert!(Settings::parse("postgres://u:a,b@h/d").is_ok(), "a password may have a comma");
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

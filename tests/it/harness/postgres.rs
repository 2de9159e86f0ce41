//! A PostgreSQL cluster of this test process, with a new database for each test.
//!
//! The store's unit tests include this file too.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

const USER: &str = "registrar";
/// The password, and its form in a URL; both are secrets.
pub const PASSWORDS: [&str; 2] = ["p4ss/word", "p4ss%2Fword"];
/// Upper bound on a busy machine.
const CLUSTER_START_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Creates and starts the cluster when a line arrives on standard input, as a standby if there is a file with its
/// primary, and removes it when standard input closes,
/// which happens however the test process ends. Signals to the process group, such as Ctrl-C, must not end the cluster
/// earlier.
const SUPERVISOR: &str = r#"
trap '' HUP INT TERM
read -r _ || { rm -rf "$1"; exit; }
if test -f "$1/primary"; then
    pg_basebackup --pgdata="$1/data" --dbname="$(cat "$1/primary")" --write-recovery-conf --checkpoint=fast \
        >"$1/log" 2>&1 </dev/null
else
    initdb --pgdata="$1/data" --username="$2" --pwfile="$1/password" --auth=scram-sha-256 --encoding=UTF8 \
        --no-locale >"$1/log" 2>&1 </dev/null
fi
test -f "$1/pg_hba.conf" && cp "$1/pg_hba.conf" "$1/data/pg_hba.conf"
directory=$1
shift 2
postgres -D "$directory/data" -c unix_socket_directories="$directory" -c max_connections=200 "$@" \
    >>"$directory/log" 2>&1 </dev/null &
server=$!
read -r _
kill -QUIT $server
wait $server
rm -rf "$directory"
"#;

/// A database of one test.
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
}

impl Database {
    /// Creates an empty database.
    pub async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut connection = connect(&url_of("postgres")).await;
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        connection.close().await.unwrap();
        Self { name }
    }

    /// For `REGISTRAR_DATABASE_URL`.
    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    /// The URL through a TCP port that forwards to the cluster.
    pub fn url_by(&self, port: u16) -> String {
        url_at(&format!("127.0.0.1:{port}"), &self.name, "sslmode=disable")
    }

    /// The URL with another user's credentials.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.url().replace(&format!("{USER}:{}", PASSWORDS[1]), &format!("{user}:{password}"))
    }

    pub async fn connect(&self) -> PgConnection {
        connect(&self.url()).await
    }

    pub async fn run(&self, statements: &str) {
        self.connect().await.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
    }
}

/// The cluster's Unix socket.
pub fn socket() -> PathBuf {
    cluster().socket()
}

pub fn url_at(host: &str, database: &str, parameters: &str) -> String {
    format!("postgres://{USER}:{}@{host}/{database}?{parameters}", PASSWORDS[1])
}

fn url_of(database: &str) -> String {
    cluster().url_of(database)
}

/// Removed when the test process ends or when dropped.
pub struct Cluster {
    directory: PathBuf,
    /// Holding its standard input open keeps the cluster running.
    supervisor: Child,
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::prepare().start())
}

impl Cluster {
    /// A cluster that listens only on its Unix socket. It is not started yet.
    pub fn prepare() -> Self {
        Self::prepare_with(&[], &["-c", "listen_addresses="])
    }

    /// A standby of a running cluster, which may be promoted.
    pub fn prepare_standby(primary: &Self) -> Self {
        let source = format!("host={} user={USER} password={}", primary.directory.display(), PASSWORDS[0]);
        Self::prepare_with(&[("primary", source)], &["-c", "listen_addresses="])
    }

    /// The cluster's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }

    /// A cluster with additional files beside its data directory, such as `pg_hba.conf`, and other arguments.
    pub fn prepare_with(files: &[(&str, String)], arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("registrar-postgres-").tempdir().unwrap().keep();
        let path = format!("{}:{}", binaries().display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISOR, "sh"]).arg(&directory).arg(USER).args(arguments);
        command.env("PATH", path).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        // PostgreSQL refuses to run as root.
        let is_root = fs::metadata(&directory).is_ok_and(|of| of.uid() == 0);
        let user = is_root.then(another_user);
        let password = ("password", PASSWORDS[0].to_owned());
        for (name, text) in files.iter().chain([&password]) {
            let file = directory.join(name);
            fs::write(&file, text).unwrap();
            // PostgreSQL refuses a key file that others may read.
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            user.iter().for_each(|(user, group)| chown(&file, Some(*user), Some(*group)).unwrap());
        }
        if let Some((user, group)) = user {
            chown(&directory, Some(user), Some(group)).unwrap();
            command.uid(user).gid(group);
        }
        let supervisor = command.spawn().unwrap();
        Self { directory, supervisor }
    }

    /// Starts the cluster without waiting until it accepts connections.
    pub fn start(mut self) -> Self {
        self.supervisor.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self
    }

    /// A database's URL through the Unix socket; the database `postgres` always exists.
    pub fn url_of(&self, database: &str) -> String {
        url_at("localhost", database, &format!("host={}", self.directory.display()))
    }
}

/// A PostgreSQL program, such as `psql`.
pub fn program(name: &str) -> Command {
    Command::new(binaries().join(name))
}

/// The binary directory of the newest installed PostgreSQL.
fn binaries() -> PathBuf {
    let has_all =
        |folder: &Path| ["initdb", "pg_dump", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path());
    let mut debian: Vec<_> = debian.map(|version| version.join("bin")).collect();
    debian.sort_by_key(|bin| bin.iter().nth(4).and_then(|version| version.to_str()?.parse::<u32>().ok()));
    let found = std::env::split_paths(&path).chain(debian.into_iter().rev()).find(|folder| has_all(folder));
    found.expect(
        "PostgreSQL is not installed: neither PATH nor /usr/lib/postgresql/*/bin has its programs. On Debian: apt-get \
         install postgresql. No running server is needed or touched.",
    )
}

/// User and group id of an unprivileged user.
fn another_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let mut fields =
            users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
        Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("no user `postgres` or `nobody` exists")
}

/// Connects, retrying while the cluster starts.
pub async fn connect(url: &str) -> PgConnection {
    let started = tokio::time::Instant::now();
    loop {
        match PgConnection::connect(url).await {
            Ok(connection) => return connection,
            Err(_) if started.elapsed() < CLUSTER_START_TIMEOUT => tokio::time::sleep(CONNECT_RETRY_INTERVAL).await,
            Err(error) => {
                let log = fs::read_to_string(cluster().directory.join("log")).unwrap_or_default();
                panic!("cannot connect to the test's PostgreSQL: {error}\n{log}");
            }
        }
    }
}

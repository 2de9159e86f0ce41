//! PgBouncer in front of the test process's PostgreSQL.

use super::{
    listener::free_port,
    postgres::{self, PASSWORDS},
    process::Process,
    wait::eventually,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::Command,
};
use tempfile::TempDir;
use tokio::net::TcpStream;

pub struct PgBouncer {
    pub port: u16,
    _process: Process,
    _directory: TempDir,
}

impl PgBouncer {
    /// With these additional lines of configuration.
    pub async fn start(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let server = postgres::socket();
        let users = directory.path().join("users");
        fs::write(&users, format!("\"registrar\" \"{}\"\n", PASSWORDS[0])).unwrap();
        let file = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\n{configuration}\n",
            server.parent().unwrap().display(),
            users.display(),
        );
        fs::write(&file, text).unwrap();
        // PgBouncer refuses to run as root, and then reads its files as another user.
        for path in [directory.path(), &users, &file] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new("pgbouncer");
        if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            // The user of the test's server: its socket's directory is private.
            command.args(["-u", "postgres"]);
        }
        let process = Process::spawn("pgbouncer", command.arg(&file));
        eventually("pgbouncer to listen", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { port, _process: process, _directory: directory }
    }
}

//! The file of an SQLite database: one process whatever its name, private, noticed when something happens to it, and a
//! bounded log.

use crate::harness::{
    CASE, Client, Service, StackBuilder, WaitFor, client::channel, eventually, register_request, service::Settings,
};
use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

fn on_file(settings: &Settings, url: &str) -> Settings {
    settings.clone().set("REGISTRAR_DATABASE_URL", url)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

/// A Python program on the file, which ends when its standard input does.
fn python(program: &str, database: &Path) -> Child {
    let mut command = Command::new("python3");
    command.args(["-c", program]).arg(database).stdin(Stdio::piped()).spawn().unwrap()
}

#[tokio::test]
async fn one_process_serves_a_file_whatever_its_name() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let folder = dependencies.directory.path();
    let file = folder.join("my r-#1.db");
    let url = |name: &str| format!("sqlite://{}/{name}", folder.display());
    let mut first = Service::start(&on_file(&settings, &url("my%20r-%231.db"))).await;
    assert!(file.is_file(), "the name is percent-decoded");
    fs::create_dir(folder.join("sub")).unwrap();
    symlink(&file, folder.join("sub/link.db")).unwrap();
    symlink(folder, folder.join("sub/folder")).unwrap();
    fs::hard_link(&file, folder.join("sub/hard.db")).unwrap();

    for name in [
        "my r-#1.db?mode=rwc",
        "my%20r%2D%231.db",
        "./sub/../my r-#1.db",
        "sub/link.db",
        "sub/folder/my r-#1.db",
        "sub/hard.db",
    ] {
        let second = Service::expect_start_failure(&on_file(&settings, &url(name))).await;
        assert_eq!(second.code, 1, "{name}: {}", second.output);
        assert!(second.output.contains("in use by another registrar"), "{name}: {}", second.output);
    }
    for private in [file.clone(), beside(&file, "-wal"), beside(&file, ".lock")] {
        assert_eq!(mode(&private), 0o600, "{}", private.display());
    }

    // By which of two names it was opened before is unknown, and so is where its log is.
    first.kill();
    let hard = Service::expect_start_failure(&on_file(&settings, &url("sub/hard.db"))).await;
    assert!(hard.code == 64 && hard.output.contains("hard links"), "{}", hard.output);
    fs::remove_file(folder.join("sub/hard.db")).unwrap();
    Service::start(&on_file(&settings, &url("sub/link.db"))).await;
    for (name, words) in [("r.db?mode=ro", "mode"), ("r.db?vfs=unix-none", "vfs")] {
        let refused = Service::expect_start_failure(&on_file(&settings, &url(name))).await;
        assert!(refused.code == 64 && refused.output.contains(words), "{}", refused.output);
    }
}

#[tokio::test]
async fn files_that_every_user_can_read_are_warned_about() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let mut service = Service::start(&settings).await;
    let log = service.log();
    assert!(!log.iter().any(|line| line["message"].as_str().unwrap().contains("every user")), "{log:#?}");
    service.kill();
    let salt = dependencies.directory.path().join("salt");
    fs::write(&salt, "salt and pepper").unwrap();
    for path in [&salt, &dependencies.database()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    let mut service = Service::start(&settings.set("REGISTRAR_USER_ID_SALT_FILE", salt.display())).await;

    for what in ["the file named by REGISTRAR_USER_ID_SALT_FILE", "can read the database"] {
        let is_it = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains(what));
        assert_eq!(service.wait_for_log(what, is_it).await["level"], "WARN");
    }
}

/// What happens to the file of a running service, and what the log says of it.
struct Accident {
    happens: fn(&Path),
    report: &'static str,
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

const ACCIDENTS: [Accident; 8] = [
    Accident { happens: |path| fs::remove_file(path).unwrap(), report: "was deleted or moved" },
    Accident { happens: |path| fs::rename(path, beside(path, ".old")).unwrap(), report: "was deleted or moved" },
    // A new connection may create it again.
    Accident { happens: |path| fs::remove_file(beside(path, "-wal")).unwrap(), report: "-wal was " },
    Accident {
        happens: |path| {
            fs::copy(path, beside(path, ".copy")).unwrap();
            fs::rename(beside(path, ".copy"), path).unwrap();
        },
        report: "was replaced by another file",
    },
    Accident {
        happens: |path| File::options().write(true).open(path).unwrap().set_len(0).unwrap(),
        report: "was truncated",
    },
    Accident {
        happens: |path| {
            let half = path.metadata().unwrap().len() / 2;
            File::options().write(true).open(path).unwrap().set_len(half).unwrap();
        },
        report: "was truncated",
    },
    Accident { happens: |path| overwrite(path, 0, &[b'x'; 10_000]), report: "was overwritten" },
    // Neither the header nor the length changes.
    Accident { happens: |path| overwrite(path, 8192, &[b'x'; 8192]), report: "damaged" },
];

/// Nothing that is acknowledged is written to a file that is not the database any more.
#[tokio::test]
async fn a_service_whose_file_is_gone_or_overwritten_stops_accepting_and_says_so() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    for (number, Accident { happens, report }) in (0..).zip(ACCIDENTS) {
        let file = dependencies.directory.path().join(format!("{number}.db"));
        let service = Service::start(&on_file(&settings, &format!("sqlite://{}", file.display()))).await;
        let client = Client::connect(service.grpc).await;
        client.confirm(number * 10, CASE).await;
        // Everything is in the file itself, so that it is complete without its log.
        let checkpoint = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint')";
        assert!(python(checkpoint, &file).wait().unwrap().success());
        client.accept(number * 10 + 1, CASE).await;

        happens(&file);

        let refused = client.register(register_request(number * 10 + 2, CASE, WaitFor::Accepted)).await.unwrap_err();
        assert_eq!(refused.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"), "accident {number}");
        let not_ready = async || (service.http("/readyz").await.0 == 503).then_some(());
        eventually("readiness to fail", not_ready).await;
        // It is published twice a second.
        let health = HealthClient::new(channel(service.grpc).await);
        let not_serving = async || {
            let answer = health.clone().check(HealthCheckRequest { service: String::new() }).await.unwrap();
            (answer.into_inner().status() == ServingStatus::NotServing).then_some(())
        };
        eventually("gRPC health to fail", not_serving).await;
        assert_eq!(service.metrics().await.value("registrar_store_up", &[]), 0.0);
        let log = service.log();
        let reports: Vec<_> = log.iter().filter(|line| line["level"] == "ERROR").collect();
        let [line] = reports[..] else { panic!("accident {number}: {} reports: {reports:#?}", reports.len()) };
        assert!(line["error"].as_str().unwrap().contains(report), "accident {number}: {line}");
    }
}

#[tokio::test]
async fn a_file_that_is_moved_away_and_back_is_used_again() {
    let stack = StackBuilder::on_demand().start().await;
    let away = beside(&stack.database(), ".away");
    fs::rename(stack.database(), &away).unwrap();
    let refused = stack.client.register(register_request(1, CASE, WaitFor::Accepted)).await.unwrap_err();
    assert_eq!(refused.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));

    fs::rename(&away, stack.database()).unwrap();

    stack.client.confirm(1, CASE).await;
    eventually("readiness", async || (stack.service.http("/readyz").await.0 == 200).then_some(())).await;
}

/// Writes 150 MB to the log while another connection reads, says so, and reads until standard input ends.
const HOLD_LOG: &str = "
import sqlite3, sys
reader, writer = [sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60) for _ in range(2)]
reader.execute('BEGIN')
reader.execute('SELECT * FROM registrations').fetchall()
writer.execute('BEGIN')
for size in [50_000_000, 50_000_001, 50_000_002]:
    writer.execute('INSERT INTO write_probes VALUES (?, 1, zeroblob(?))', (b'held %d' % size, size))
writer.execute('COMMIT')
sys.stdin.read()
";

/// Another program may write to the file and do checkpoints, as backup programs do.
#[tokio::test]
async fn a_log_that_another_program_keeps_large_is_reported_and_cut_afterwards() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    let log = beside(&stack.database(), "-wal");
    let mut reader = python(HOLD_LOG, &stack.database());

    let warned = |line: &serde_json::Value| line["message"].as_str().unwrap().contains("write-ahead log is large");
    let warning = stack.service.wait_for_log("a large log", warned).await;
    assert_eq!(warning["level"], "WARN");
    stack.client.confirm(2, CASE).await;
    let bytes = stack.service.metrics().await.value("registrar_store_log_bytes", &[]);
    assert!(bytes > 140_000_000.0 && log.metadata().unwrap().len() > 140_000_000, "{bytes}");

    drop(reader.stdin.take());
    assert!(reader.wait().unwrap().success());

    let mut number = 3;
    eventually("the log to be cut", async || {
        stack.client.confirm(number, CASE).await;
        number += 1;
        (log.metadata().unwrap().len() < 70_000_000).then_some(())
    })
    .await;
    assert_eq!(stack.service.log().into_iter().filter(warned).count(), 1);
    assert!(stack.service.log().iter().all(|line| line["level"] != "ERROR"), "the file is still ours");
}

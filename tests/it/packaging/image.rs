//! The image of this build, from the Dockerfile's own last stage: it starts as an unprivileged user on a read-only root
//! file system, registers, and stops on SIGTERM.
//!
//! buildah packs it without a network and without a daemon; the base, which cannot be pulled here, is replaced by what
//! the binary needs of it. The mounts are in a namespace of the process and end with it.

use super::{root, text_of};
use crate::harness::{
    CASE, Client, Service, StackBuilder, cli::Run, document, eventually, listener::free_port, service::Settings, within,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::Instant;

/// `nonroot` of the base.
const USER: u32 = 65532;
/// The default `REGISTRAR_SHUTDOWN_GRACE`.
const GRACE: Duration = Duration::from_secs(20);

/// A container of the image.
struct Image {
    folder: TempDir,
    /// Its root file system.
    files: PathBuf,
    /// As `docker inspect` shows it.
    config: Value,
}

/// Runs buildah with all its state below a folder.
pub(super) fn buildah(folder: &Path, arguments: &[&str]) -> String {
    // It mounts and changes owners, and so do the tests.
    assert!(rustix::process::geteuid().is_root(), "the tests of the image have to run as root");
    let mut command = Command::new("buildah");
    command.args(["--storage-driver", "vfs", "--root"]).arg(folder.join("storage"));
    command.arg("--runroot").arg(folder.join("run")).args(arguments);
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("buildah cannot be run ({error}): `make test` installs it from Debian's package buildah")
    });
    assert!(output.status.success(), "buildah {}:\n{}", arguments.join(" "), text_of(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Image {
    fn pack() -> Self {
        let folder = TempDir::new().unwrap();
        buildah(folder.path(), &["--version"]);
        let mut pack = Command::new(root().join("tests/packaging/pack-image.sh"));
        let output = pack.arg(env!("CARGO_BIN_EXE_registrar")).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "the image cannot be packed:\n{}", text_of(&output));
        let files = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        let inspected = buildah(folder.path(), &["inspect", "--type", "image", "localhost/registrar"]);
        let config = serde_json::from_str::<Value>(&inspected).unwrap()["Docker"]["config"].clone();
        fs::create_dir(folder.path().join("view")).unwrap();
        Self { folder, files, config }
    }

    fn strings(&self, name: &str) -> Vec<&str> {
        let values = self.config[name].as_array().unwrap_or_else(|| panic!("no {name} in {}", self.config));
        values.iter().map(|value| value.as_str().unwrap()).collect()
    }

    /// The entry point without arguments, with the image's environment, user and working directory.
    fn command(&self) -> Command {
        let (user, group) = self.config["User"].as_str().unwrap().split_once(':').unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh"]);
        command.arg(root().join("tests/packaging/run-image.sh")).arg(&self.files).arg(self.folder.path().join("view"));
        command.args([user, group, self.config["WorkingDir"].as_str().unwrap()]).args(self.strings("Entrypoint"));
        command.env_clear().envs(self.strings("Env").into_iter().map(|variable| variable.split_once('=').unwrap()));
        command
    }

    /// Runs another command of the program in the container.
    async fn run(&self, arguments: &[&str], settings: &Settings) -> Run {
        let mut command = tokio::process::Command::from(self.command());
        command.args(arguments).envs(settings.variables()).stdin(Stdio::null()).kill_on_drop(true);
        let output = within(&format!("`registrar {}` in the image", arguments.join(" ")), command.output()).await;
        let output = output.unwrap();
        Run {
            code: output.status.code().unwrap_or_else(|| panic!("killed: {}", text_of(&output))),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Of the settings of a stack, those that an image leaves to its operator.
fn without_the_images_own(stack: &Settings) -> Settings {
    let own = ["REGISTRAR_LISTEN", "REGISTRAR_ADMIN_LISTEN", "REGISTRAR_DATABASE_URL", "LOG_FORMAT"];
    let others = stack.variables().iter().filter(|(name, _)| !own.contains(&name.as_str()));
    others.fold(Settings::empty(), |settings, (name, value)| settings.set(name, value))
}

#[tokio::test]
async fn the_image_registers_on_a_read_only_root_and_stops_on_sigterm() {
    let image = Image::pack();
    let (dependencies, settings) = StackBuilder::block_time(0.2).prepare().await;
    let (grpc, admin) = (free_port(), free_port());
    // The image's own ports may be in use here.
    let settings = without_the_images_own(&settings)
        .set("REGISTRAR_LISTEN", format!("0.0.0.0:{grpc}"))
        .set("REGISTRAR_ADMIN_LISTEN", format!("0.0.0.0:{admin}"))
        .set("REGISTRAR_ALLOW_INSECURE", true);
    let entry_point = image.strings("Entrypoint");
    assert_eq!(image.config["Healthcheck"]["Test"], json!(["CMD", entry_point[0], "healthcheck"]));
    // `start_with` adds it.
    assert_eq!(image.strings("Cmd"), ["serve"]);
    let unanswered = image.run(&["healthcheck"], &settings).await;
    assert_eq!(unanswered.code, 69, "{unanswered:?}");

    let mut service = Service::start_with(image.command(), &settings).await;
    eventually("a successful health check", async || {
        (image.run(&["healthcheck"], &settings).await.code == 0).then_some(())
    })
    .await;
    let client = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, grpc))).await;
    client.confirm(1, CASE).await;

    dependencies.registry.assert_registered_exactly([(document(1), CASE.to_owned())]).await;
    let database = fs::metadata(image.files.join("data/registrar.db")).unwrap();
    assert_eq!((database.uid(), database.gid()), (USER, USER));
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).unwrap();
    for expected in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.lines().any(|line| line == expected), "not {expected}: {status}");
    }
    assert_eq!(image.config["StopSignal"], "SIGTERM");
    let started = Instant::now();
    service.terminate();
    assert_eq!(service.exit_code().await, 0);
    assert!(started.elapsed() < GRACE, "it used the whole grace period: {:?}", started.elapsed());
    let unanswered = image.run(&["healthcheck"], &settings).await;
    assert_eq!(unanswered.code, 69, "{unanswered:?}");
}

#[tokio::test]
async fn a_container_writes_to_its_volume_and_nowhere_else() {
    let image = Image::pack();
    assert_eq!(image.config["Volumes"], json!({ "/data": {} }));
    let data = fs::metadata(image.files.join("data")).unwrap();
    assert_eq!((data.uid(), data.gid()), (USER, USER));
    let settings = Settings::empty().set("REGISTRAR_KEYSTORE_PASSWORD", "correct horse");
    // Everybody may write there, as far as its mode says.
    assert_eq!(fs::metadata(image.files.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    let refused = image.run(&["signer", "new", "--keystore", "/tmp/signer.json"], &settings).await;
    assert!(refused.code != 0 && refused.stderr.contains("read-only"), "{refused:?}");
    let written = image.run(&["signer", "new", "--keystore", "/data/signer.json"], &settings).await;
    assert_eq!(written.code, 0, "{written:?}");
    assert!(image.files.join("data/signer.json").exists());
    assert!(!image.files.join("tmp/signer.json").exists());
}

#[tokio::test]
async fn a_container_that_other_machines_reach_without_protection_does_not_start() {
    let image = Image::pack();
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let failed = Service::expect_start_failure_with(image.command(), &without_the_images_own(&settings)).await;
    assert_eq!(failed.code, 64, "{}", failed.output);
    for address in ["0.0.0.0:50051", "0.0.0.0:9464"] {
        assert!(failed.output.contains(&format!("{address} is reachable from other machines")), "{}", failed.output);
    }
    assert!(failed.output.contains("REGISTRAR_ALLOW_INSECURE=true"), "{}", failed.output);
    let version = image.run(&["--version"], &Settings::empty()).await;
    assert!(version.code == 0 && version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
}

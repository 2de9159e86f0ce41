//! The program, started as a pod of the manifests starts it: with the environment of the image and of the ConfigMap, and
//! with the Secrets that the guide creates as files, in the layout of Kubernetes' volumes.

use super::{Manifests, guide::create_secrets, number, text};
use crate::{
    auth::caller,
    harness::{
        Client, Service, StackBuilder,
        certificates::{Authority, Certificate},
        service::Settings,
        stack::Dependencies,
        tls_client, within,
    },
    packaging::dockerfile::environment,
};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

pub const HOST: &str = "127.0.0.1";
/// As `registrar token new` makes them.
pub const CALLER_TOKEN: &str = "rgs_DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD";
pub const ADMIN_TOKEN: &str = "rgs_EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE";

/// How the kubelet names a pod: by its address.
const POD_ADDRESS: &str = "10.42.0.7:9464";

pub struct Pod {
    pub manifests: Manifests,
    pub settings: Settings,
    /// Of the server's certificate.
    pub authority: Authority,
    /// In the place of the root file system.
    root: TempDir,
    _dependencies: Dependencies,
}

impl Pod {
    /// Everything that a pod of the overlay needs, with anvil in the place of the RPC endpoints.
    pub async fn prepare(overlay: &str) -> Self {
        let manifests = Manifests::from_overlay(overlay);
        let builder = StackBuilder::on_demand();
        let builder = if overlay == "postgres" { builder.postgres() } else { builder };
        let (dependencies, harness) = builder.prepare().await;
        let authority = Authority::new();
        let root = TempDir::new().unwrap();
        mount_volumes(&manifests, root.path(), &write_files(&harness, &authority));
        let settings = settings(&manifests, root.path(), &harness);
        Self { manifests, settings, authority, root, _dependencies: dependencies }
    }

    pub async fn start(&self) -> Service {
        Service::start(&self.settings).await
    }

    /// Replaces the files of a secret volume as the kubelet does: all of them in one step.
    pub fn update(&self, path: &str, files: &BTreeMap<String, Vec<u8>>) {
        let volume = below(self.root.path(), path);
        write_version(&volume, "..2", files, 0o440);
        symlink("..2", volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    }

    pub async fn client(&self, service: &Service, token: &str) -> Client {
        tls_client::connect(on_loopback(service.grpc), &self.authority, None).await.with_token(token)
    }

    /// Status and body of a page of the admin port, asked for like the kubelet and Prometheus do.
    pub async fn get(
        &self,
        service: &Service,
        path: &str,
        token: Option<&str>,
    ) -> Result<(u16, String), reqwest::Error> {
        let root = reqwest::Certificate::from_pem(self.authority.certificate.as_bytes()).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
        let request = http.get(format!("https://{}{path}", on_loopback(service.admin))).header("host", POD_ADDRESS);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = within(path, request.send()).await?;
        Ok((response.status().as_u16(), within(path, response.text()).await?))
    }
}

/// The address where this machine reaches a listener on all of its addresses.
pub fn on_loopback(address: SocketAddr) -> SocketAddr {
    assert!(address.ip().is_unspecified(), "{address} is not reachable from other machines");
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
}

/// One that registers and reads, and Prometheus.
pub fn callers() -> String {
    caller("aaa-service", CALLER_TOKEN, r#""register", "read""#, "")
        + &caller("prometheus", ADMIN_TOKEN, r#""admin""#, "")
}

/// The files of a kubernetes.io/tls Secret.
pub fn tls_files(Certificate { certificate, key }: &Certificate) -> BTreeMap<String, Vec<u8>> {
    [("tls.crt", certificate), ("tls.key", key)].map(|(name, pem)| (name.to_owned(), pem.clone().into_bytes())).into()
}

/// The files that the guide lets an operator make.
fn write_files(harness: &Settings, authority: &Authority) -> TempDir {
    let folder = TempDir::new().unwrap();
    let variable = |name: &str| harness.variables()[name].clone();
    for (name, content) in [
        ("signer-keys", variable("REGISTRAR_SIGNER_KEYS")),
        ("rpc-urls", variable("REGISTRAR_RPC_URLS")),
        ("database-url", variable("REGISTRAR_DATABASE_URL")),
        ("callers.toml", callers()),
        ("token", ADMIN_TOKEN.to_owned()),
        ("ca.crt", authority.certificate.clone()),
    ] {
        fs::write(folder.path().join(name), content + "\n").unwrap();
    }
    authority.sign(HOST).write(folder.path(), "tls");
    folder
}

fn mount_volumes(manifests: &Manifests, root: &Path, files: &TempDir) {
    let secrets = create_secrets(files.path());
    for (path, volume) in manifests.secret_mounts() {
        let folder = below(root, path);
        fs::create_dir_all(&folder).unwrap();
        let name = text(&volume["secretName"]);
        let secret = secrets.get(name).unwrap_or_else(|| panic!("the guide creates no Secret {name}"));
        let mode = u32::try_from(number(&volume["defaultMode"])).unwrap();
        write_version(&folder, "..1", &secret.data, mode);
        symlink("..1", folder.join("..data")).unwrap();
        for key in secret.data.keys() {
            symlink(Path::new("..data").join(key), folder.join(key)).unwrap();
        }
    }
    for path in manifests.claim_mounts() {
        fs::create_dir_all(below(root, path)).unwrap();
    }
}

fn write_version(volume: &Path, version: &str, files: &BTreeMap<String, Vec<u8>>, mode: u32) {
    let folder = volume.join(version);
    fs::create_dir(&folder).unwrap();
    for (key, content) in files {
        let file = folder.join(key);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
}

/// Of image and ConfigMap, with the mounted paths below `root`.
fn settings(manifests: &Manifests, root: &Path, harness: &Settings) -> Settings {
    let mounts: Vec<_> = manifests.secret_mounts().into_keys().chain(manifests.claim_mounts()).collect();
    let settings =
        environment().into_iter().fold(Settings::empty(), |settings, (name, value)| settings.set(&name, value));
    let settings = manifests.settings().iter().fold(settings, |settings, (name, value)| {
        // Several tests run on one machine.
        let value = match value.parse::<SocketAddr>() {
            Ok(address) => SocketAddr::new(address.ip(), 0).to_string(),
            Err(_) => relocated(value, &mounts, root),
        };
        settings.set(name, value)
    });
    // What an operator adds, and a chain whose ETH is not real.
    let added = ["REGISTRAR_CONTRACT_ADDRESS", "REGISTRAR_CHAIN_ID", "REGISTRAR_DAILY_BUDGET_ETH"];
    added.into_iter().fold(settings, |settings, name| settings.set(name, &harness.variables()[name]))
}

fn relocated(value: &str, mounts: &[&str], root: &Path) -> String {
    for mount in mounts {
        for scheme in ["", "sqlite://"] {
            if let Some(rest) = value.strip_prefix(&format!("{scheme}{mount}/")) {
                return format!("{scheme}{}", below(root, mount).join(rest).display());
            }
        }
    }
    value.to_owned()
}

/// An absolute path of the pod below `root`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

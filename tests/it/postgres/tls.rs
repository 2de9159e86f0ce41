//! TLS to PostgreSQL: the server is verified as configured, and unsafe connections fail the start without exposing the
//! password.

use super::{CASE, start::failed_start_with};
use crate::harness::{
    Client, Database, Service, StackBuilder, TcpProxy,
    certificates::Authority,
    postgres::{self, Cluster},
};
use std::net::{Ipv4Addr, TcpListener};

/// A PostgreSQL that accepts only TLS, reachable at two addresses; its certificate is for the first one.
struct Server {
    authority: Authority,
    named: Ipv4Addr,
    unnamed: Ipv4Addr,
    port: u16,
    _cluster: Cluster,
}

impl Server {
    async fn start() -> Self {
        let (named, unnamed) = own_addresses();
        // No other process uses this address, so the port stays free.
        let port = TcpListener::bind((named, 0)).unwrap().local_addr().unwrap().port();
        let authority = Authority::new();
        let signed = authority.sign(&named.to_string());
        let only_tls = "local all all scram-sha-256\nhostssl all all 127.0.0.0/8 scram-sha-256\n";
        let files =
            [("server.crt", signed.certificate), ("server.key", signed.key), ("pg_hba.conf", only_tls.to_owned())];
        let (listen, port_is) = (format!("listen_addresses={named},{unnamed}"), format!("port={port}"));
        let certificate = ["-c", "ssl=on", "-c", "ssl_cert_file=../server.crt", "-c", "ssl_key_file=../server.key"];
        let arguments = [&["-c", &listen, "-c", &port_is][..], &certificate].concat();
        let cluster = Cluster::prepare_with(&files, &arguments).start();
        let server = Self { authority, named, unnamed, port, _cluster: cluster };
        drop(postgres::connect(&server.url(named, "sslmode=require")).await);
        server
    }

    /// Its URL at this address, with these TLS parameters.
    fn url(&self, address: Ipv4Addr, parameters: &str) -> String {
        postgres::url_at(&format!("{address}:{}", self.port), "postgres", parameters)
    }

    /// Its URL with the right root certificate.
    fn verified_url(&self, address: Ipv4Addr, mode: &str) -> String {
        self.url(address, &format!("sslmode={mode}&sslrootcert={}", self.authority.root().display()))
    }
}

/// Two loopback addresses that only this process uses, derived from its id of at most 22 bits.
fn own_addresses() -> (Ipv4Addr, Ipv4Addr) {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, 64 + high, middle, low), Ipv4Addr::new(127, 128 + high, middle, low))
}

#[tokio::test]
async fn the_servers_certificate_is_verified_as_configured() {
    let server = Server::start().await;
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let modes = [
        server.verified_url(server.named, "verify-full"),
        server.verified_url(server.unnamed, "verify-ca"),
        server.url(server.unnamed, "sslmode=require"),
        server.url(server.unnamed, ""),
    ];
    for (number, url) in (1..).zip(modes) {
        let mut service = Service::start(&settings.clone().set("REGISTRAR_DATABASE_URL", url)).await;
        Client::connect(service.grpc).await.confirm(number, CASE).await;
        service.terminate();
        assert_eq!(service.exit_code().await, 0);
    }
    drop(dependencies);
}

#[tokio::test]
async fn an_unsafe_connection_fails_the_start() {
    let server = Server::start().await;
    let (untrusted, proxy) = (Authority::new(), TcpProxy::new(&Database::new().await));
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let root = |path: &str| format!("sslmode=verify-full&sslrootcert={path}");
    for (url, words) in [
        // Another root, the public roots, and another host name.
        (server.url(server.named, &root(&untrusted.root().display().to_string())), "invalid peer certificate"),
        (server.url(server.named, "sslmode=verify-full"), "invalid peer certificate"),
        (server.verified_url(server.unnamed, "verify-full"), "not valid for name"),
        (server.url(server.named, &root("/absent/ca.crt")), "/absent/ca.crt"),
        // `require` would not check the certificate against the root.
        (server.verified_url(server.named, "require"), "verify-full"),
        // Plain text to a server that requires TLS, and TLS to one without it.
        (server.url(server.named, "sslmode=disable"), "no encryption"),
        (proxy.url.replace("sslmode=disable", "sslmode=require"), "does not support TLS"),
    ] {
        let (code, output) = failed_start_with(&settings, &url).await;
        assert!(output.contains(words), "`{words}` is missing in: {output}");
        assert_eq!(code, 64, "{output}");
    }
}

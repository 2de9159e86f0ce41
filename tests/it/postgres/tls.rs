//! A server that takes TLS alone: who it is is checked, and what is not safe is said at the start, and never the password.

use super::{CASE, start::refused_on};
use crate::harness::{
    Client, Database, Line, Plan, Service,
    certificates::Authority,
    postgres::{self, Cluster},
};
use std::net::{Ipv4Addr, TcpListener};

/// A PostgreSQL that is spoken to over TLS alone, and that two addresses lead to: its certificate is for the first one.
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
        // Nobody else uses this address, so that the port stays free.
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

    /// Where it is by this address, with this said about TLS.
    fn url(&self, address: Ipv4Addr, parameters: &str) -> String {
        postgres::url_at(&format!("{address}:{}", self.port), "postgres", parameters)
    }

    /// The same with the right root certificate.
    fn checked(&self, address: Ipv4Addr, mode: &str) -> String {
        self.url(address, &format!("sslmode={mode}&sslrootcert={}", self.authority.root().display()))
    }
}

/// Two loopback addresses of this process alone, by its number of at most 22 bits.
fn own_addresses() -> (Ipv4Addr, Ipv4Addr) {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, 64 + high, middle, low), Ipv4Addr::new(127, 128 + high, middle, low))
}

#[tokio::test]
async fn the_servers_certificate_is_checked_as_far_as_the_settings_say() {
    let server = Server::start().await;
    let (ground, settings) = Plan::on_demand().prepare().await;
    let modes = [
        server.checked(server.named, "verify-full"),
        server.checked(server.unnamed, "verify-ca"),
        server.url(server.unnamed, "sslmode=require"),
        server.url(server.unnamed, ""),
    ];
    for (number, url) in (1..).zip(modes) {
        let mut service = Service::start(&settings.clone().set("REGISTRAR_DATABASE_URL", url)).await;
        Client::connect(service.grpc).await.confirm(number, CASE).await;
        service.terminate();
        assert_eq!(service.exit_code().await, 0);
    }
    drop(ground);
}

#[tokio::test]
async fn a_connection_that_is_not_safe_is_refused_at_the_start() {
    let server = Server::start().await;
    let (stranger, line) = (Authority::new(), Line::to(&Database::new().await));
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let root = |path: &str| format!("sslmode=verify-full&sslrootcert={path}");
    for (url, words) in [
        // By a root that did not sign it, by those that everybody knows, and under another name.
        (server.url(server.named, &root(&stranger.root().display().to_string())), "invalid peer certificate"),
        (server.url(server.named, "sslmode=verify-full"), "invalid peer certificate"),
        (server.checked(server.unnamed, "verify-full"), "not valid for name"),
        (server.url(server.named, &root("/absent/ca.crt")), "/absent/ca.crt"),
        // Nothing would be checked against it.
        (server.checked(server.named, "require"), "verify-full"),
        // In plain text to a server that takes only TLS, and the other way round.
        (server.url(server.named, "sslmode=disable"), "no encryption"),
        (line.url.replace("sslmode=disable", "sslmode=require"), "does not support TLS"),
    ] {
        let (code, said) = refused_on(&settings, &url).await;
        assert!(said.contains(words), "`{words}` is missing in: {said}");
        assert_eq!(code, 64, "{said}");
    }
}

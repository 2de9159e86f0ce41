//! Clients that do not finish their handshake, and clients that use TLS where the port does not, or the other way round.

use super::TlsStack;
use crate::harness::{CASE, StackBuilder, eventually, http2::Http2, within};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

const ATTACKERS: usize = 1_000;
/// The record header and the beginning of a ClientHello.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";

/// All that a server sends until it closes the connection.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    within("the end of the connection", stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_thousand_unfinished_handshakes_do_not_disturb_a_good_caller() {
    let stack = TlsStack::start().await;
    let address = stack.service.grpc;
    let client = stack.client(None).await;
    client.info().await;
    let mut attackers = Vec::with_capacity(ATTACKERS);
    for _ in 0..ATTACKERS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(HALF_HELLO).await.unwrap();
        attackers.push(stream);
    }
    // Both the connection of before and new ones.
    let started = Instant::now();
    for number in 0..5 {
        client.confirm(number, CASE).await;
        stack.client(None).await.confirm(100 + number, CASE).await;
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let ends = attackers.into_iter().map(|mut stream| async move {
        // Closed or reset.
        within("the end of a handshake", stream.read(&mut [0; 64])).await.is_ok()
    });
    futures_util::future::join_all(ends).await;
    client.info().await;
}

#[tokio::test]
async fn an_unfinished_handshake_ends_after_five_seconds() {
    let stack = TlsStack::start().await;
    let started = Instant::now();
    answer_to(stack.service.grpc, HALF_HELLO).await;
    let took = started.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_client_without_tls_learns_that_it_has_to_use_it() {
    let stack = TlsStack::start().await;
    for address in [stack.service.grpc, stack.service.admin] {
        for request in ["GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", "POST / HTTP/1.1\r\n", "nonsense"] {
            let answer = String::from_utf8(answer_to(address, request.as_bytes()).await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nthis port uses TLS; use https://\n"), "{answer}");
        }
    }
    let mut http2 = Http2::connect(stack.service.grpc).await;
    // The answer may be there before the call is sent.
    let error = match http2.call("/registrar.v1.RegistrarService/GetServiceInfo").await {
        Ok(call) => within("an answer", call.answer).await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    assert!(error.to_string().contains("this port uses TLS; use https://"), "{error}");
    eventually("each in the log", async || (stack.logged("has to use https://") == 7).then_some(())).await;
    let warnings = stack.service.log().into_iter().filter(|line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| text.contains("has to use https://"))
    });
    assert_eq!(warnings.count(), 2, "one for each port");
}

#[tokio::test]
async fn a_client_with_tls_learns_that_there_is_none() {
    let stack = StackBuilder::on_demand().start().await;
    for address in [stack.service.grpc, stack.service.admin] {
        let answer = String::from_utf8(answer_to(address, HALF_HELLO).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with("this port does not use TLS; use http://\n"), "{answer}");
    }
    stack.client.confirm(1, CASE).await;
}

#[tokio::test]
async fn a_refused_client_that_does_not_read_is_disconnected() {
    let stack = TlsStack::start().await;
    let mut stream = TcpStream::connect(stack.service.grpc).await.unwrap();
    let request = b"GET / HTTP/1.1\r\n\r\n";
    let sending = async {
        while stream.write_all(request).await.is_ok() {
            sleep(Duration::from_millis(5)).await
        }
    };
    within("the end of the connection", sending).await;
}

//! Connections: cancelled calls, age, limits, and clients that stop in the middle.

use crate::harness::{
    CASE, Client, Service, StackBuilder, State, WaitFor, document, eventually,
    http2::{Http2, frame, raw_frame},
    register_request, within,
};
use futures_util::future::join_all;
use h2::Reason;
use registrar::api::proto::GetServiceInfoRequest;
use std::{net::SocketAddr, process::Command, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const REGISTER: &str = "/registrar.v1.RegistrarService/RegisterDocument";
const GET_INFO: &str = "/registrar.v1.RegistrarService/GetServiceInfo";
/// An HTTP/2 preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const SETTINGS_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";

#[tokio::test]
async fn cancelled_calls_leave_the_others_of_their_connection_alone() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let mut http2 = Http2::connect(stack.service.grpc).await;
    let mut waiting = Vec::new();
    for number in 0..40 {
        let mut call = http2.call(REGISTER).await.unwrap();
        call.body.send_data(frame(&register_request(number, CASE, WaitFor::Confirmed)), true).unwrap();
        waiting.push(call);
    }
    for number in 0..40 {
        eventually("acceptance", async || stack.client.get_pair(&document(number), CASE).await.ok()).await;
    }
    // Some before their message, some after it, in one burst; and as many at once as a connection may have calls.
    for round in 0..3 {
        let mut burst = Vec::new();
        for number in 0..300 {
            let mut call = http2.call(REGISTER).await.unwrap();
            if number % 2 == 0 {
                let request = register_request(1_000 + number, CASE, WaitFor::Confirmed);
                call.body.send_data(frame(&request), true).unwrap();
            }
            burst.push(call);
        }
        burst.iter_mut().for_each(|call| call.body.send_reset(Reason::CANCEL));
        drop(burst);
        let answer = http2.call(GET_INFO).await.unwrap().finish(raw_frame(0, b"")).await;
        assert_eq!(answer.grpc, Some(0), "round {round}: {answer:?}");
    }

    stack.anvil.mine_on_demand().await;
    for call in waiting {
        assert_eq!(call.answered().await.grpc, Some(0));
    }
}

#[tokio::test]
async fn a_connection_that_does_nothing_but_cancel_is_closed() {
    /// Twice the burst that is allowed, and what is on its way.
    const MANY: usize = 10_000;
    let stack = StackBuilder::on_demand().start().await;
    // One by one the service finds most of them cancelled before it looks at them, in bursts it has begun with some.
    for burst in [1, 64] {
        let mut http2 = Http2::connect(stack.service.grpc).await;
        let mut cancelled = 0;
        while !http2.is_closed() && cancelled < MANY {
            let Ok(mut call) = http2.call(REGISTER).await else { break };
            call.body.send_reset(Reason::CANCEL);
            cancelled += 1;
            if cancelled % burst == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert!(cancelled < MANY, "it was never closed, in bursts of {burst}");
    }
    stack.client.confirm(1, CASE).await;
    let metrics = stack.service.metrics().await;
    let closed = |reason| metrics.value("registrar_connections_closed_total", &[("port", "grpc"), ("reason", reason)]);
    assert_eq!(closed("cancels") + closed("protocol"), 2.0);
    let levels = stack.service.log().into_iter().filter(|line| line["level"] == "ERROR" || line["level"] == "WARN");
    assert_eq!(levels.collect::<Vec<_>>(), Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_connection_ends_at_its_age_and_its_waiting_calls_do_not() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_CONNECTION_AGE", "1s").start().await;
    stack.anvil.stop_mining().await;
    let mut http2 = Http2::connect(stack.service.grpc).await;
    let mut waiting = http2.call(REGISTER).await.unwrap();
    waiting.body.send_data(frame(&register_request(1, CASE, WaitFor::Confirmed)), true).unwrap();
    let watching = stack.client.accept(2, CASE).await;
    let mut watch = stack.client.watch(&watching.id, WaitFor::Confirmed, 0).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().state(), State::Queued);

    // New calls are sent to another connection.
    within("GOAWAY", async {
        while http2.call(GET_INFO).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(!http2.is_closed(), "the waiting call was cut");
    // tonic finds out with the first call, which it fails without sending it.
    let again = async || stack.client.stub().get_service_info(GetServiceInfoRequest {}).await.ok();
    eventually("an answer on a new connection", again).await;

    stack.anvil.mine_on_demand().await;
    assert_eq!(waiting.answered().await.grpc, Some(0));
    assert_eq!(watch.rest().await.last().unwrap().state(), State::Confirmed);
    http2.closed().await;
}

#[tokio::test]
async fn clients_that_stop_in_the_middle_are_disconnected() {
    let stack = StackBuilder::on_demand().start().await;
    let (grpc, admin) = (stack.service.grpc, stack.service.admin);
    let sent = |parts: &[&[u8]]| parts.concat();
    // HEADERS of stream 1 with the indexed fields :method POST and :scheme http, without END_HEADERS.
    let half_headers: &[u8] = b"\0\0\x02\x01\0\0\0\0\x01\x83\x86";
    let kinds: [(&str, SocketAddr, Vec<u8>); 11] = [
        ("silent", grpc, Vec::new()),
        ("half a preface", grpc, PREFACE[..10].to_vec()),
        ("only a preface", grpc, PREFACE.to_vec()),
        ("no acknowledgement of the settings", grpc, sent(&[PREFACE, SETTINGS])),
        ("no call", grpc, sent(&[PREFACE, SETTINGS, SETTINGS_ACK])),
        ("half a frame", grpc, sent(&[PREFACE, SETTINGS, b"\0\0\x40\x01"])),
        ("half of the headers", grpc, sent(&[PREFACE, SETTINGS, half_headers])),
        ("TLS", grpc, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec()),
        ("half of an HTTP/1.1 request", grpc, b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec()),
        ("silent, admin", admin, Vec::new()),
        ("half of a request, admin", admin, b"GET /metrics HTTP/1.1\r\nHo".to_vec()),
    ];
    let started = Instant::now();
    let ends = kinds.map(|(name, address, bytes)| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // Reads, and answers nothing.
        within(name, async { while stream.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {} }).await;
        (name, started.elapsed())
    });
    let unfinished = async {
        let mut http2 = Http2::connect(grpc).await;
        let mut call = http2.call(REGISTER).await.unwrap();
        call.body.send_data(raw_frame(0, b"12345").slice(..7), false).unwrap();
        let answer = call.answered().await;
        assert_eq!((answer.grpc, answer.reason.as_deref()), (Some(3), Some("MALFORMED_REQUEST")), "{answer:?}");
        http2
    };
    let (ends, mut http2) = tokio::join!(join_all(ends), unfinished);
    for (name, after) in ends {
        assert!(after < Duration::from_secs(30), "{name}: {after:?}");
    }
    let answer = http2.call(GET_INFO).await.unwrap().finish(raw_frame(0, b"")).await;
    assert_eq!(answer.grpc, Some(0), "the connection of the unfinished call lives: {answer:?}");
    let metrics = stack.service.metrics().await;
    let closed = metrics.value("registrar_connections_closed_total", &[("port", "grpc"), ("reason", "no_call")]);
    assert!(closed >= 5.0, "{closed}");
}

#[tokio::test]
async fn idle_connections_make_room_for_others() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_CONNECTIONS", 8).start().await;
    stack.anvil.stop_mining().await;
    let waiting = tokio::spawn({
        let client = stack.client.clone();
        async move { client.confirm(1, CASE).await }
    });
    eventually("acceptance", async || {
        Client::connect(stack.service.grpc).await.get_pair(&document(1), CASE).await.ok()
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..30 {
        idle.push(TcpStream::connect(stack.service.grpc).await.unwrap());
    }
    Client::connect(stack.service.grpc).await.info().await;
    let open = stack.service.metrics().await.value("registrar_connections", &[("port", "grpc")]);
    assert!(open <= 8.0, "{open} connections");

    stack.anvil.mine_on_demand().await;
    within("the waiting call", waiting).await.unwrap();
    let is_about =
        |line: &serde_json::Value| line["message"].as_str().unwrap_or_default().contains("too many connections");
    assert_eq!(stack.service.log().iter().filter(|line| is_about(line)).count(), 1);
}

#[tokio::test]
async fn a_process_with_few_descriptors_goes_on_serving() {
    // 64 is less than the connections that are allowed, and about what the service needs itself.
    let (_dependencies, settings) = StackBuilder::on_demand().set("REGISTRAR_MAX_CONNECTIONS", 100_000).prepare().await;
    for limit in [64, 128] {
        let mut limited = Command::new("sh");
        let command = format!("ulimit -n {limit}; exec '{}' \"$0\"", env!("CARGO_BIN_EXE_registrar"));
        limited.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(["-c", &command]);
        let mut service = Service::start_with(limited, &settings).await;
        let client = Client::connect(service.grpc).await;
        client.info().await;
        let cpu = async |service: &Service| service.metrics().await.value("process_cpu_seconds_total", &[]);
        let before = cpu(&service).await;
        let mut idle = Vec::new();
        for number in 0..300 {
            let address = if number % 2 == 0 { service.grpc } else { service.admin };
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;

        let used = cpu(&service).await - before;
        assert!(used < 0.7, "{used} s of processor time with {limit} descriptors");
        Client::connect(service.grpc).await.info().await;
        assert_eq!(service.http("/readyz").await.0, 200);
        assert!(service.log().len() < 40, "{} log lines with {limit} descriptors", service.log().len());
        service.kill();
    }
}

#[tokio::test]
async fn streams_without_an_end_do_not_delay_the_exit() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let channel = crate::harness::client::channel(stack.service.grpc).await;
    let mut health = HealthClient::new(channel);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    within("the first status", watch.message()).await.unwrap().unwrap();
    let mut http2 = Http2::connect(stack.service.grpc).await;
    let mut reflections = Vec::new();
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let mut call = http2.call(&path).await.unwrap();
        call.body.send_data(raw_frame(0, b"\x3a\0"), false).unwrap();
        reflections.push(call);
    }
    http2.call(GET_INFO).await.unwrap().finish(raw_frame(0, b"")).await;
    let accepted = stack.client.accept(1, CASE).await;
    let mut registration = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();
    registration.next().await.unwrap().unwrap();
    let started = Instant::now();

    stack.service.terminate();

    let status = within("the end", async {
        loop {
            if let Err(status) = watch.message().await {
                return status;
            }
        }
    });
    let status = status.await;
    assert_eq!(status.metadata().get("x-error-reason").unwrap(), "SHUTTING_DOWN", "{status:?}");
    for call in reflections {
        let answer = call.answered().await;
        assert_eq!((answer.grpc, answer.reason.as_deref()), (Some(14), Some("SHUTTING_DOWN")), "{answer:?}");
    }
    let ended = loop {
        if let Err(error) = registration.next().await.unwrap() {
            break error;
        }
    };
    assert_eq!((ended.reason.as_str(), ended.registration_id), ("SHUTTING_DOWN", Some(accepted.id)));
    assert_eq!(stack.service.exit_code().await, 0);
    assert!(started.elapsed() < Duration::from_secs(4), "exited after {:?}", started.elapsed());
}

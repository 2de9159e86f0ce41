//! A log that is not read, or cannot be written, never stops the work.

use crate::harness::{
    CASE, Client, StackBuilder, TestStack, eventually, listener::ReservedPort, proxy::Proxy, rpc::http_client,
    scratch_dir::ScratchDir, service::command, within,
};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    io::{PipeReader, PipeWriter, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use tokio::time::Instant;

/// The capacity of a pipe.
const PIPE_BYTES: usize = 65_536;
/// The process waits one second for the reader at its end; the rest is for a busy machine.
const MAX_END_TIME: Duration = Duration::from_secs(15);
/// Far above a registration's time on a node that mines on demand, also on a busy machine.
const MAX_CALL_TIME: Duration = Duration::from_secs(9);

/// A pipe that takes no more bytes.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b'\n'; PIPE_BYTES]).unwrap();
    (reader, writer)
}

/// A child whose output the test does not read; killed when dropped.
struct Unread(Child);

impl Unread {
    fn spawn(command: &mut Command, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        Self(command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap())
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    /// The exit status, and how long it took.
    async fn exit(&mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        let status = eventually("the process to exit", async || self.0.try_wait().unwrap()).await;
        (status, started.elapsed())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Registers this many documents at once; returns the slowest call's time.
async fn slowest(client: &Client, numbers: std::ops::Range<u64>) -> Duration {
    let timed = async |number| {
        let started = Instant::now();
        client.confirm(number, CASE).await;
        started.elapsed()
    };
    join_all(numbers.map(timed)).await.into_iter().max().unwrap()
}

async fn dropped_lines(stack: &TestStack) -> f64 {
    stack.service.metrics().await.value("registrar_log_dropped_total", &[])
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_call_and_its_gap_is_counted_and_logged() {
    let mut stack = StackBuilder::on_demand().set("RUST_LOG", "trace,h2=trace").start().await;
    stack.service.stall_log(true);

    eventually("a full queue", async || {
        join_all((0..100).map(|_| stack.client.info())).await;
        (dropped_lines(&stack).await > 0.0).then_some(())
    })
    .await;
    let slowest = slowest(&stack.client, 0..100).await;
    let lost = dropped_lines(&stack).await;
    stack.service.stall_log(false);

    assert!(slowest < MAX_CALL_TIME, "the slowest call took {slowest:?}");
    eventually("the gap in the log", async || {
        let log = stack.service.log();
        let is_report =
            |line: &&Value| line["message"].as_str().is_some_and(|text| text.starts_with("log lines dropped"));
        let reported: f64 = log.iter().filter(is_report).filter_map(|line| line["lines"].as_f64()).sum();
        (reported >= lost).then_some(())
    })
    .await;
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
    assert_eq!(stack.service.log().last().unwrap()["message"], "stopped", "the last line is missing");
}

#[tokio::test]
async fn a_service_whose_log_is_not_read_stops_in_time() {
    let mut stack =
        StackBuilder::on_demand().set("RUST_LOG", "trace,h2=trace").set("REGISTRAR_SHUTDOWN_GRACE", "4s").start().await;
    stack.service.stall_log(true);
    slowest(&stack.client, 0..50).await;
    let started = Instant::now();

    stack.service.terminate();

    assert_eq!(stack.service.exit_code().await, 0);
    assert!(started.elapsed() < MAX_END_TIME, "exited after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_no_call() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let (closed, closed_pipe) = std::io::pipe().unwrap();
    drop(closed);
    let full_disk = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut number = 0;
    for stderr in [Stdio::from(closed_pipe), Stdio::from(full_disk)] {
        let (grpc, admin) = (ReservedPort::new(), ReservedPort::new());
        let settings =
            settings.clone().set("REGISTRAR_LISTEN", grpc.address).set("REGISTRAR_ADMIN_LISTEN", admin.address);
        let mut service = Unread::spawn(command().arg("serve").envs(settings.variables()), Stdio::null(), stderr);
        let page = format!("http://{}/metrics", admin.address);
        let metrics = async || http_client().get(&page).send().await.ok()?.text().await.ok();
        eventually("the service to listen", &metrics).await;

        number += 1;
        Client::connect(grpc.address).await.confirm(number, CASE).await;

        let page = metrics().await.unwrap();
        let dropped = page.lines().find_map(|line| line.strip_prefix("registrar_log_dropped_total ")).unwrap();
        assert!(dropped.parse::<f64>().unwrap() > 3.0, "{dropped} lines dropped");
        service.terminate();
        assert_eq!(service.exit().await.0.code(), Some(0));
    }
    drop(dependencies);
}

#[tokio::test]
async fn the_reason_of_a_failed_start_is_written_to_a_full_pipe_and_delays_the_exit_only_briefly() {
    let (dependencies, settings) = StackBuilder::on_demand().through_proxy().prepare().await;
    let proxy: &Proxy = &dependencies.proxies[0];
    // An account without code: the start fails once the endpoint has answered.
    let settings = settings.set("REGISTRAR_CONTRACT_ADDRESS", "0x00000000000000000000000000000000000000aa");

    let (unread, stderr) = full_pipe();
    let mut service = Unread::spawn(command().arg("serve").envs(settings.variables()), Stdio::null(), stderr);
    let (status, took) = service.exit().await;
    assert_eq!(status.code(), Some(64));
    assert!(took < MAX_END_TIME, "exited after {took:?}");
    drop(unread);

    let (mut reader, stderr) = full_pipe();
    let before = proxy.count("eth_getCode");
    let mut service = Unread::spawn(command().arg("serve").envs(settings.variables()), Stdio::null(), stderr);
    eventually("the start to look for the contract", async || (proxy.count("eth_getCode") > before).then_some(()))
        .await;
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let text = within("the output", read).await.unwrap().unwrap();
    assert_eq!(service.exit().await.0.code(), Some(64));
    let reason = text.lines().find(|line| line.contains("registrar::end"));
    assert!(reason.is_some_and(|line| line.contains("0x0000000000000000")), "no reason in {text}");
}

#[tokio::test]
async fn a_dev_stack_whose_output_is_not_read_serves_and_stops() {
    let directory = ScratchDir::new();
    let grpc = ReservedPort::new();
    let (_output, stdout) = full_pipe();
    let (_errors, stderr) = full_pipe();
    let mut command = command();
    command.arg("dev").envs(directory.variables()).env("RUST_LOG", "trace").env("REGISTRAR_SHUTDOWN_GRACE", "4s");
    command.env("REGISTRAR_LISTEN", grpc.address.to_string()).env("REGISTRAR_ADMIN_LISTEN", "127.0.0.1:0");
    let mut stack = Unread::spawn(&mut command, stdout, stderr);
    let client = eventually("the stack to serve", async || {
        stack.0.try_wait().unwrap().is_none().then_some(())?;
        tokio::net::TcpStream::connect(grpc.address).await.ok()?;
        Some(Client::connect(grpc.address).await)
    })
    .await;

    for number in 0..5 {
        client.confirm(number, CASE).await;
    }
    stack.terminate();

    let (status, took) = stack.exit().await;
    assert!(took < MAX_END_TIME, "exited after {took:?}");
    assert!(status.code().is_some(), "killed by a signal: {status}");
    directory.assert_unchanged(&[]);
}

//! `registrar dev`: a complete local stack that leaves nothing behind.

use crate::harness::{Client, Registration, ScratchDir, State, cli, process::Process, service::command, within};
use rustix::process::Signal;
use std::{fs, path::Path, process::Output};

/// A running `registrar dev` and the address of its gRPC server.
async fn stack(directory: &ScratchDir) -> (Process, std::net::SocketAddr) {
    let mut command = command();
    command.arg("dev").envs(directory.variables());
    command.env("REGISTRAR_LISTEN", "127.0.0.1:0").env("REGISTRAR_ADMIN_LISTEN", "127.0.0.1:0");
    command.env("REGISTRAR_SHUTDOWN_GRACE", "5s");
    let mut process = Process::spawn("registrar dev", &mut command).with_children();
    let address = |line: &str| line.trim().strip_prefix("gRPC")?.trim().parse().ok();
    let grpc = process.wait_for_line("where it listens", address).await;
    (process, grpc)
}

/// Its output, once all of it is printed.
async fn full_output(process: &mut Process) -> String {
    process.wait_for_line("the last call", |line| (line == "EOF").then_some(())).await;
    process.lines().all().join("\n")
}

/// The lines from the first that contains `begins` to the first that ends with `ends`.
fn excerpt(full_output: &str, begins: &str, ends: &str) -> String {
    let lines = full_output.lines().skip_while(|line| !line.trim().contains(begins));
    let mut taken = Vec::new();
    for line in lines {
        taken.push(line);
        if line.ends_with(ends) {
            return taken.join("\n");
        }
    }
    panic!("no example that begins with `{begins}` in:\n{full_output}")
}

/// Runs a printed command in a shell, with `path` in front of PATH.
async fn run_pasted(text: &str, path: &str) -> Output {
    let mut shell = tokio::process::Command::new("sh");
    let path = format!("{path}{}", std::env::var("PATH").unwrap());
    within("the pasted call", shell.arg("-c").arg(text).env("PATH", path).output()).await.unwrap()
}

/// The only registration of this service.
async fn only_registration(grpc: std::net::SocketAddr) -> Registration {
    let client = Client::connect(grpc).await;
    let mut all = client.list(Default::default()).await.unwrap().registrations;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test]
async fn dev_once_shows_a_confirmed_registration_and_leaves_nothing_behind() {
    let directory = ScratchDir::new();
    let file = directory.path().join("hello.txt");
    fs::write(&file, "hello\n").unwrap();

    let run = cli::run(&["dev", "--once", file.to_str().unwrap()], &directory.variables()).await;

    assert_eq!(run.code, 0, "{run:?}");
    let output = run.stdout.to_lowercase();
    for word in ["confirmed", "prepare", "send", "wait", "registrar verify"] {
        assert!(output.contains(word), "{word} is missing in:\n{}", run.stdout);
    }
    directory.assert_unchanged(&["hello.txt"]);
}

#[tokio::test]
async fn a_missing_file_is_reported_before_anything_starts() {
    let directory = ScratchDir::new();
    let run = cli::run(&["dev", "--once", "/no/such/file"], &directory.variables()).await;
    assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{run:?}");
    assert!(run.stderr.contains("/no/such/file"), "{run:?}");
    directory.assert_unchanged(&[]);
}

#[tokio::test]
async fn the_dev_stack_runs_until_a_signal_and_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let directory = ScratchDir::new();
        let (mut process, grpc) = stack(&directory).await;
        Client::connect(grpc).await.confirm(1, "case-1").await;

        process.signal(signal);

        assert_eq!(process.exit().await.code(), Some(0), "{signal:?}");
        directory.assert_unchanged(&[]);
    }
}

#[tokio::test]
async fn a_killed_dev_stack_leaves_nothing_behind() {
    let directory = ScratchDir::new();
    let (mut process, grpc) = stack(&directory).await;
    Client::connect(grpc).await.confirm(1, "case-1").await;

    process.kill();

    directory.assert_unchanged(&[]);
}

#[tokio::test]
async fn the_printed_commands_work_when_pasted() {
    let directory = ScratchDir::new();
    let (mut process, grpc) = stack(&directory).await;
    let full_output = full_output(&mut process).await;

    for command in [" register ", " verify "] {
        let is_call = |line: &&str| line.contains(command) && line.contains(&format!("--server http://{grpc}"));
        let line = full_output.lines().find(is_call).unwrap_or_else(|| panic!("no call of{command}in:\n{full_output}"));
        let output = run_pasted(line, "").await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    assert_eq!(only_registration(grpc).await.state(), State::Confirmed);
    process.signal(Signal::TERM);
    assert_eq!(process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_printed_curl_call_and_the_operator_page_work() {
    let directory = ScratchDir::new();
    let (mut process, grpc) = stack(&directory).await;
    let full_output = full_output(&mut process).await;
    let call = excerpt(&full_output, "curl -H", "RegisterDocument");

    let output = run_pasted(&call, "").await;

    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && answer.contains("STATE_CONFIRMED"), "{output:?}");
    let page = full_output.lines().find_map(|line| line.trim().strip_prefix("operators")).unwrap().trim().to_owned();
    let shown = crate::harness::rpc::http_client().get(&page).send().await.unwrap().text().await.unwrap();
    let registration = only_registration(grpc).await;
    assert!(shown.contains(&format!("/ui/registrations/{}", registration.id)), "{shown}");
    process.signal(Signal::TERM);
    assert_eq!(process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_printed_python_example_works_when_pasted() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/.venv/bin");
    assert!(python.join("python3").exists(), "tests/foreign/.venv is missing: `make test` installs it");
    let directory = ScratchDir::new();
    let (mut process, grpc) = stack(&directory).await;
    let call = excerpt(&full_output(&mut process).await, "python3 -", "EOF");

    let output = run_pasted(&call, &format!("{}:", python.display())).await;

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("STATE_CONFIRMED"), "{output:?}");
    assert_eq!(only_registration(grpc).await.state(), State::Confirmed);
    process.signal(Signal::TERM);
    assert_eq!(process.exit().await.code(), Some(0));
}

//! `registrar dev`: everything at once for a newcomer, and nothing left of it.

use crate::harness::{Client, Place, Registration, State, cli, process::Process, service::command, within};
use rustix::process::Signal;
use std::{fs, path::Path, process::Output};

/// A stack that works in this place until it is told to end, and where its gRPC server is.
async fn stack(place: &Place) -> (Process, std::net::SocketAddr) {
    let mut command = command();
    command.arg("dev").envs(place.variables());
    command.env("REGISTRAR_LISTEN", "127.0.0.1:0").env("REGISTRAR_ADMIN_LISTEN", "127.0.0.1:0");
    command.env("REGISTRAR_SHUTDOWN_GRACE", "5s");
    let mut process = Process::spawn("registrar dev", &mut command).with_children();
    let address = |line: &str| line.trim().strip_prefix("gRPC")?.trim().parse().ok();
    let grpc = process.said("where it listens", address).await;
    (process, grpc)
}

/// What it prints, once all of it is there.
async fn screen(process: &mut Process) -> String {
    process.said("the last call", |line| (line == "EOF").then_some(())).await;
    process.lines().all().join("\n")
}

/// The lines from the one that begins like this to the one that ends like that.
fn excerpt(screen: &str, begins: &str, ends: &str) -> String {
    let lines = screen.lines().skip_while(|line| !line.trim().contains(begins));
    let mut taken = Vec::new();
    for line in lines {
        taken.push(line);
        if line.ends_with(ends) {
            return taken.join("\n");
        }
    }
    panic!("no call that begins with `{begins}` in:\n{screen}")
}

/// Runs what was printed in a shell, with this in front of its PATH.
async fn paste(text: &str, path: &str) -> Output {
    let mut shell = tokio::process::Command::new("sh");
    let path = format!("{path}{}", std::env::var("PATH").unwrap());
    within("the pasted call", shell.arg("-c").arg(text).env("PATH", path).output()).await.unwrap()
}

/// The one registration that a pasted call made.
async fn only_registration(grpc: std::net::SocketAddr) -> Registration {
    let client = Client::connect(grpc).await;
    let mut all = client.list(Default::default()).await.unwrap().registrations;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test]
async fn one_command_shows_a_newcomer_the_whole_journey_and_leaves_nothing_behind() {
    let place = Place::new();
    let file = place.path().join("hello.txt");
    fs::write(&file, "hello\n").unwrap();

    let run = cli::run(&["dev", "--once", file.to_str().unwrap()], &place.variables()).await;

    assert_eq!(run.code, 0, "{run:?}");
    let said = run.stdout.to_lowercase();
    for word in ["confirmed", "prepare", "send", "wait", "registrar verify"] {
        assert!(said.contains(word), "{word} is missing in:\n{}", run.stdout);
    }
    place.is_as_it_was(&["hello.txt"]);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_said_before_anything_starts() {
    let place = Place::new();
    let run = cli::run(&["dev", "--once", "/no/such/file"], &place.variables()).await;
    assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{run:?}");
    assert!(run.stderr.contains("/no/such/file"), "{run:?}");
    place.is_as_it_was(&[]);
}

#[tokio::test]
async fn the_stack_stays_until_ctrl_c_and_nothing_of_it_stays_after() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let place = Place::new();
        let (mut process, grpc) = stack(&place).await;
        Client::connect(grpc).await.confirm(1, "case-1").await;

        process.signal(signal);

        assert_eq!(process.exit().await.code(), Some(0), "{signal:?}");
        place.is_as_it_was(&[]);
    }
}

#[tokio::test]
async fn the_command_that_it_prints_works_as_it_is_pasted() {
    let place = Place::new();
    let (mut process, grpc) = stack(&place).await;
    let screen = screen(&mut process).await;

    for command in [" register ", " verify "] {
        let is_call = |line: &&str| line.contains(command) && line.contains(&format!("--server http://{grpc}"));
        let line = screen.lines().find(is_call).unwrap_or_else(|| panic!("no call of{command}in:\n{screen}"));
        let output = paste(line, "").await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    assert_eq!(only_registration(grpc).await.state(), State::Confirmed);
    process.signal(Signal::TERM);
    assert_eq!(process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_python_call_that_it_prints_works_as_it_is_pasted() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/.venv/bin");
    assert!(python.join("python3").exists(), "tests/foreign/.venv is not there: `make test` installs it");
    let place = Place::new();
    let (mut process, grpc) = stack(&place).await;
    let call = excerpt(&screen(&mut process).await, "python3 -", "EOF");

    let output = paste(&call, &format!("{}:", python.display())).await;

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("STATE_CONFIRMED"), "{output:?}");
    assert_eq!(only_registration(grpc).await.state(), State::Confirmed);
    process.signal(Signal::TERM);
    assert_eq!(process.exit().await.code(), Some(0));
}

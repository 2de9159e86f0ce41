//! Signals: the first one starts a graceful shutdown, the second one exits immediately.

use super::{Exit, print_error};
use std::{future::Future, io, task::Poll};
use tokio_util::sync::CancellationToken;

/// Runs until completion, or shuts down gracefully on SIGTERM or SIGINT; a second signal exits immediately with 130.
pub async fn run_until_signal<F: Future<Output = Exit>>(run: impl FnOnce(CancellationToken) -> F) -> Exit {
    run_with_signals(ShutdownSignals::listen(), run).await
}

/// Also shuts down on SIGHUP, so that a child process does not outlive the terminal.
pub(super) async fn run_until_signal_or_hangup<F: Future<Output = Exit>>(
    run: impl FnOnce(CancellationToken) -> F,
) -> Exit {
    run_with_signals(ShutdownSignals::listen_with_hangup(), run).await
}

async fn run_with_signals<F: Future<Output = Exit>>(
    signals: io::Result<ShutdownSignals>,
    run: impl FnOnce(CancellationToken) -> F,
) -> Exit {
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return print_error(&error, Exit::Failed),
    };
    let shutdown = CancellationToken::new();
    let run = run(shutdown.clone());
    tokio::pin!(run);
    tokio::select! {
        exit = &mut run => return exit,
        () = signals.next() => shutdown.cancel(),
    }
    tokio::select! {
        exit = run => exit,
        () = signals.next() => Exit::Interrupted,
    }
}

struct ShutdownSignals {
    #[cfg(unix)]
    streams: Vec<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl ShutdownSignals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { streams: vec![signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?] })
    }

    fn listen_with_hangup() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut signals = Self::listen()?;
        signals.streams.push(signal(SignalKind::hangup())?);
        Ok(signals)
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let signalled = self.streams.iter_mut().any(|kind| kind.poll_recv(context).is_ready());
            if signalled { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(not(unix))]
impl ShutdownSignals {
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    fn listen_with_hangup() -> io::Result<Self> {
        Self::listen()
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

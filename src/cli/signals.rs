//! Signals: the first drains, the second leaves at once.

use super::{Exit, complain};
use std::future::Future;
use tokio_util::sync::CancellationToken;

/// Runs until it ends by itself or drains after SIGTERM, SIGINT or SIGHUP; a second signal ends it at once with 130.
pub async fn until_signalled<F: Future<Output = Exit>>(run: impl FnOnce(CancellationToken) -> F) -> Exit {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return complain(&error, Exit::Failed),
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

/// The signals that ask a process to end.
struct Signals {
    #[cfg(unix)]
    kinds: [tokio::signal::unix::Signal; 3],
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            kinds: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?],
        })
    }

    async fn next(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.kinds;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

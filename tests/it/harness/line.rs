//! The line between a service and its database server, which can be cut, or fall silent.

use super::{
    door::Door,
    postgres::{self, Database},
    wait::within,
};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// How the line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// All that is said arrives.
    Sound,
    /// Whoever talks is hung up on, and nobody gets through, as when the server has stopped.
    Cut,
    /// Nothing arrives, and nobody is told: a cable that was pulled, a machine that is frozen.
    Silent,
    /// Whoever commits is hung up on before the answer: it has happened, and nobody is told.
    LosesCommits,
}

/// A TCP port that leads to the test process's PostgreSQL. Gone when dropped.
pub struct Line {
    /// Where the database is by this line, for `REGISTRAR_DATABASE_URL`.
    pub url: String,
    condition: watch::Sender<Condition>,
    called: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Line {
    /// A sound line to this database.
    pub fn to(database: &Database) -> Self {
        let door = Door::open();
        let url = database.url_by(door.address.port());
        let condition = watch::Sender::new(Condition::Sound);
        let (of_door, of_calls) = (condition.subscribe(), condition.subscribe());
        let (tell, called) = watch::channel(false);
        let call = move |caller| {
            tell.send_replace(true);
            converse(caller, of_calls.clone())
        };
        let task = tokio::spawn(door.serve(of_door, |condition| *condition == Condition::Cut, || {}, call));
        Self { url, condition, called, task }
    }

    /// Returns when somebody has called.
    pub async fn called(&self) {
        let mut called = self.called.clone();
        within("a call", called.wait_for(|called| *called)).await.unwrap();
    }

    /// From now on it is like this.
    pub fn becomes(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(caller: TcpStream, condition: watch::Receiver<Condition>) {
    let Ok(server) = UnixStream::connect(postgres::socket()).await else { return };
    let (from_caller, to_caller) = caller.into_split();
    let (from_server, to_server) = server.into_split();
    let commits = AtomicBool::new(false);
    let note = |said: &[u8], condition: Condition| {
        if condition == Condition::LosesCommits && said.windows(6).any(|word| word == b"COMMIT") {
            commits.store(true, Ordering::Relaxed);
        }
        true
    };
    let lose = |_: &[u8], _| !commits.load(Ordering::Relaxed);
    tokio::select! {
        () = carry(from_caller, to_server, condition.clone(), note) => {}
        () = carry(from_server, to_caller, condition, lose) => {}
    }
}

/// Carries what is said one way, when the line lets it, and as long as `may_pass` does.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut condition: watch::Receiver<Condition>,
    may_pass: impl Fn(&[u8], Condition) -> bool,
) {
    let mut said = vec![0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut said).await {
        let Ok(condition) = condition.wait_for(|condition| *condition != Condition::Silent).await.map(|now| *now)
        else {
            return;
        };
        if !may_pass(&said[..count], condition) || to.write_all(&said[..count]).await.is_err() {
            return;
        }
    }
}

//! The line between a service and its database server, which can be cut, or fall silent.

use super::{
    door::Door,
    postgres::{self, Database},
};
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
}

/// A TCP port that leads to the test process's PostgreSQL. Gone when dropped.
pub struct Line {
    /// Where the database is by this line, for `REGISTRAR_DATABASE_URL`.
    pub url: String,
    condition: watch::Sender<Condition>,
    task: JoinHandle<()>,
}

impl Line {
    /// A sound line to this database.
    pub fn to(database: &Database) -> Self {
        let door = Door::open();
        let url = database.url_by(door.address.port());
        let condition = watch::Sender::new(Condition::Sound);
        let (of_door, of_calls) = (condition.subscribe(), condition.subscribe());
        let call = move |caller| converse(caller, of_calls.clone());
        let task = tokio::spawn(door.serve(of_door, |condition| *condition == Condition::Cut, || {}, call));
        Self { url, condition, task }
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
    tokio::select! {
        () = carry(from_caller, to_server, condition.clone()) => {}
        () = carry(from_server, to_caller, condition) => {}
    }
}

/// Carries what is said one way, when the line lets it.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut condition: watch::Receiver<Condition>,
) {
    let mut said = vec![0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut said).await {
        if condition.wait_for(|condition| *condition != Condition::Silent).await.is_err()
            || to.write_all(&said[..count]).await.is_err()
        {
            return;
        }
    }
}

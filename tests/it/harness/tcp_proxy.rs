//! A TCP proxy between the service and PostgreSQL that can drop or stall the connection.

use super::{
    listener::PausableListener,
    postgres::{self, Database},
    wait::within,
};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpProxyMode {
    Forward,
    /// Open connections end and new ones are refused, as when the server has stopped.
    Refuse,
    /// Connections stay open and no byte arrives, as with an unplugged cable or a frozen machine.
    Stall,
    /// A connection that sends COMMIT ends before the reply: the transaction is committed and the client does not know.
    DropCommitReplies,
}

/// Forwards a TCP port to a PostgreSQL.
pub struct TcpProxy {
    /// The database's URL through this proxy, for `REGISTRAR_DATABASE_URL`.
    pub url: String,
    mode: watch::Sender<TcpProxyMode>,
    server: Arc<Mutex<PathBuf>>,
    connected: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl TcpProxy {
    /// To the test process's own server.
    pub fn new(database: &Database) -> Self {
        Self::to(postgres::socket(), |port| database.url_by(port))
    }

    /// To the server with this Unix socket.
    pub fn to(socket: PathBuf, url: impl FnOnce(u16) -> String) -> Self {
        let listener = PausableListener::bind();
        let url = url(listener.address.port());
        let server = Arc::new(Mutex::new(socket));
        let target = Arc::clone(&server);
        let mode = watch::Sender::new(TcpProxyMode::Forward);
        let (listener_mode, connection_mode) = (mode.subscribe(), mode.subscribe());
        let (on_connect, connected) = watch::channel(false);
        let serve = move |client| {
            on_connect.send_replace(true);
            serve_connection(client, target.lock().unwrap().clone(), connection_mode.clone())
        };
        let task = tokio::spawn(listener.serve(listener_mode, |mode| *mode == TcpProxyMode::Refuse, || {}, serve));
        Self { url, mode, server, connected, task }
    }

    /// New connections lead to another server; open ones stay as they are.
    pub fn switch_to(&self, socket: PathBuf) {
        *self.server.lock().unwrap() = socket;
    }

    /// Waits for the first connection.
    pub async fn connected(&self) {
        let mut connected = self.connected.clone();
        within("a connection to the proxy", connected.wait_for(|connected| *connected)).await.unwrap();
    }

    pub fn set_mode(&self, mode: TcpProxyMode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_connection(client: TcpStream, server: PathBuf, mode: watch::Receiver<TcpProxyMode>) {
    let Ok(server) = UnixStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let commit_sent = AtomicBool::new(false);
    let forward_request = |bytes: &[u8], mode: TcpProxyMode| {
        if mode == TcpProxyMode::DropCommitReplies && bytes.windows(6).any(|word| word == b"COMMIT") {
            commit_sent.store(true, Ordering::Relaxed);
        }
        true
    };
    let forward_reply = |_: &[u8], _| !commit_sent.load(Ordering::Relaxed);
    tokio::select! {
        () = forward(from_client, to_server, mode.clone(), forward_request) => {}
        () = forward(from_server, to_client, mode, forward_reply) => {}
    }
}

/// Forwards one direction, as long as `may_forward` allows the bytes.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<TcpProxyMode>,
    may_forward: impl Fn(&[u8], TcpProxyMode) -> bool,
) {
    let mut buffer = vec![0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Ok(mode) = mode.wait_for(|mode| *mode != TcpProxyMode::Stall).await.map(|mode| *mode) else { return };
        if !may_forward(&buffer[..count], mode) || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

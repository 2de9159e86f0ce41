//! The harness's TCP listener, which can close its port and reopen it.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A listener that keeps its port while it is closed: a socket that is bound but does not listen refuses connections,
/// and no other process can bind the port.
pub struct PausableListener {
    _reserved: TcpSocket,
    pub address: SocketAddr,
    listener: TcpListener,
}

/// A port that refuses connections and that no other process can bind.
pub struct ReservedPort {
    _reserved: TcpSocket,
    pub address: SocketAddr,
}

/// For a program that binds its port itself. Below the ports that systems give to outgoing connections, so that none of
/// those takes it before the program does.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(10_000..32_768)).find(is_free).unwrap()
}

impl ReservedPort {
    pub fn new() -> Self {
        let socket = bound("127.0.0.1:0".parse().unwrap());
        Self { address: socket.local_addr().unwrap(), _reserved: socket }
    }
}

impl PausableListener {
    /// Listens on a free port.
    pub fn bind() -> Self {
        let socket = bound("127.0.0.1:0".parse().unwrap());
        let address = socket.local_addr().unwrap();
        Self { _reserved: socket, address, listener: listen(address) }
    }

    /// Serves connections until it is dropped. While `is_closed`, open connections end and new ones are refused.
    pub async fn serve<T, C: Future<Output = ()> + Send + 'static>(
        mut self,
        mut state: watch::Receiver<T>,
        is_closed: impl Fn(&T) -> bool,
        on_close: impl Fn(),
        serve_connection: impl Fn(TcpStream) -> C,
    ) {
        loop {
            // Dropping it with this task ends every connection.
            let mut connections = JoinSet::new();
            tokio::select! {
                biased;
                _ = state.wait_for(|state| is_closed(state)) => {}
                () = accept(&self.listener, &mut connections, &serve_connection) => return,
            }
            let Self { _reserved, address, listener } = self;
            drop(listener);
            connections.shutdown().await;
            on_close();
            // Without a sender the state cannot change again.
            if state.wait_for(|state| !is_closed(state)).await.is_err() {
                return;
            }
            self = Self { _reserved, address, listener: listen(address) };
        }
    }
}

async fn accept<C: Future<Output = ()> + Send + 'static>(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    serve_connection: &impl Fn(TcpStream) -> C,
) {
    while let Ok((stream, _)) = listener.accept().await {
        // Nagle's algorithm would delay small answers, and the delay would look like the service's.
        let _ = stream.set_nodelay(true);
        connections.spawn(serve_connection(stream));
        while connections.try_join_next().is_some() {}
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    bound(address).listen(BACKLOG).unwrap()
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

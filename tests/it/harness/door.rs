//! A listening port of the harness's own servers, which can be shut and opened again.

use std::net::SocketAddr;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A port that stays ours while nobody listens on it: a socket that is bound and does not listen refuses connections, and
/// keeps everybody else from binding.
pub struct Door {
    _reserved: TcpSocket,
    /// Where it is.
    pub address: SocketAddr,
    listener: TcpListener,
}

/// A port on which nobody listens, and on which nobody else can.
pub struct Wall {
    _reserved: TcpSocket,
    /// Where it is.
    pub address: SocketAddr,
}

impl Wall {
    /// One on a free port.
    pub fn build() -> Self {
        let socket = bound("127.0.0.1:0".parse().unwrap());
        Self { address: socket.local_addr().unwrap(), _reserved: socket }
    }
}

impl Door {
    /// Opens one on a free port.
    pub fn open() -> Self {
        let socket = bound("127.0.0.1:0".parse().unwrap());
        let address = socket.local_addr().unwrap();
        Self { _reserved: socket, address, listener: listen(address) }
    }

    /// Speaks with everybody who comes, until it is dropped, but for the times when it is to be shut: then open connections
    /// end, and new ones are refused.
    pub async fn serve<T, C: Future<Output = ()> + Send + 'static>(
        mut self,
        mut state: watch::Receiver<T>,
        is_shut: impl Fn(&T) -> bool,
        when_shut: impl Fn(),
        converse: impl Fn(TcpStream) -> C,
    ) {
        loop {
            // Dropped with this task, and every connection with it.
            let mut connections = JoinSet::new();
            tokio::select! {
                biased;
                _ = state.wait_for(|state| is_shut(state)) => {}
                () = accept(&self.listener, &mut connections, &converse) => return,
            }
            let Self { _reserved, address, listener } = self;
            drop(listener);
            connections.shutdown().await;
            when_shut();
            // Without a sender nobody can want it open again.
            if state.wait_for(|state| !is_shut(state)).await.is_err() {
                return;
            }
            self = Self { _reserved, address, listener: listen(address) };
        }
    }
}

async fn accept<C: Future<Output = ()> + Send + 'static>(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    converse: &impl Fn(TcpStream) -> C,
) {
    while let Ok((stream, _)) = listener.accept().await {
        // Answers are small, and a delay of theirs would look like one of the service.
        let _ = stream.set_nodelay(true);
        connections.spawn(converse(stream));
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

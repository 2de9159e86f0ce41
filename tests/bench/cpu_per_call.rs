//! The service's processor time for a call on warm connections.

use crate::{harness::client::Client, process::Cpu};
use futures_util::future::join_all;
use registrar::api::proto::GetServiceInfoRequest;

const CONNECTIONS: usize = 4;
/// Processor time has a resolution of 10 ms.
pub const CALLS: usize = 20_000;
/// Not counted: includes handshakes and filling caches.
const WARM_UP: usize = 500;

/// In microseconds; `None` on systems without /proc.
pub async fn cpu_per_call(connect: impl AsyncFn() -> Client) -> Option<f64> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connect().await);
    }
    let call = async |count: usize| {
        let callers = clients.iter().map(async |client| {
            let mut stub = client.stub();
            for _ in 0..count / CONNECTIONS {
                stub.get_service_info(GetServiceInfoRequest {}).await.unwrap();
            }
        });
        join_all(callers).await;
    };
    call(WARM_UP).await;
    let before = Cpu::now()?;
    call(CALLS).await;
    let used = Cpu::now()? - before;
    Some(used.service.as_secs_f64() * 1e6 / CALLS as f64)
}

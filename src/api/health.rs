//! `grpc.health.v1`: the service serves when it can accept; `chain` says whether an endpoint answers now. A halted chain must
//! not stop us from accepting.

use super::proto::registrar_service_server::{RegistrarServiceServer, SERVICE_NAME};
use crate::pipeline::Registrar;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// How often health is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The name under which the chain's health is told.
const CHAIN: &str = "chain";

/// Keeps the health service up to date until `stop`, and then says that nothing is served any more.
pub(super) async fn watch(reporter: HealthReporter, registrar: Registrar, stop: CancellationToken) {
    let serving = |yes| if yes { ServingStatus::Serving } else { ServingStatus::NotServing };
    while !stop.is_cancelled() {
        let usable = serving(registrar.store_is_usable().await);
        reporter.set_service_status("", usable).await;
        reporter.set_service_status(SERVICE_NAME, usable).await;
        reporter.set_service_status(CHAIN, serving(registrar.chain_is_healthy())).await;
        stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_not_serving::<RegistrarServiceServer<super::service::Service>>().await;
    reporter.set_service_status(CHAIN, ServingStatus::NotServing).await;
}

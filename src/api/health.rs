//! `grpc.health.v1`: the service is SERVING when it can accept registrations, `chain` when an endpoint responds. A
//! halted chain must not stop the service from accepting.

use super::proto::registrar_service_server::SERVICE_NAME;
use crate::pipeline::Registrar;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
const CHAIN_SERVICE_NAME: &str = "chain";

/// To be called once before the server accepts connections, so that the first check is answered correctly.
pub(super) async fn publish_health(reporter: &HealthReporter, registrar: &Registrar) {
    let serving = |yes| if yes { ServingStatus::Serving } else { ServingStatus::NotServing };
    let usable = serving(registrar.is_store_usable().await);
    reporter.set_service_status("", usable).await;
    reporter.set_service_status(SERVICE_NAME, usable).await;
    reporter.set_service_status(CHAIN_SERVICE_NAME, serving(registrar.is_chain_healthy())).await;
}

/// Reports NOT_SERVING for everything after `stop`.
pub(super) async fn publish_health_until_stopped(
    reporter: HealthReporter,
    registrar: Registrar,
    stop: CancellationToken,
) {
    while stop.run_until_cancelled(tokio::time::sleep(HEALTH_INTERVAL)).await.is_some() {
        publish_health(&reporter, &registrar).await;
    }
    for name in ["", SERVICE_NAME, CHAIN_SERVICE_NAME] {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
}

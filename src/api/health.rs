//! `grpc.health.v1`: the service serves when it can accept; `chain` says whether an endpoint answers now. A halted chain must
//! not stop us from accepting.

use super::proto::registrar_service_server::SERVICE_NAME;
use crate::pipeline::Registrar;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// How often health is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The name under which the chain's health is told.
const CHAIN: &str = "chain";

/// Says how it stands now; to be done once before anybody can ask.
pub(super) async fn look(reporter: &HealthReporter, registrar: &Registrar) {
    let serving = |yes| if yes { ServingStatus::Serving } else { ServingStatus::NotServing };
    let usable = serving(registrar.store_is_usable().await);
    reporter.set_service_status("", usable).await;
    reporter.set_service_status(SERVICE_NAME, usable).await;
    reporter.set_service_status(CHAIN, serving(registrar.chain_is_healthy())).await;
}

/// Keeps the health service up to date until `stop`, and then says that nothing is served any more.
pub(super) async fn watch(reporter: HealthReporter, registrar: Registrar, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        look(&reporter, &registrar).await;
    }
    for name in ["", SERVICE_NAME, CHAIN] {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
}

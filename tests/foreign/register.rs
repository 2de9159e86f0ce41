use registrar::api::proto::{
    RegisterDocumentRequest, Registration, WaitFor, registrar_service_client::RegistrarServiceClient,
};
use std::time::Duration;
use tonic::{Code, Request, Status, transport::Endpoint};

/// Returns the registration, or the last error. The same pair may be sent again whenever the outcome is unknown.
pub async fn register(server: String, document_hash: &str, case_id: &str) -> Result<Registration, Status> {
    let channel = Endpoint::from_shared(server).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let mut registrar = RegistrarServiceClient::new(channel.connect_lazy());
    for attempt in 1.. {
        let mut request = Request::new(RegisterDocumentRequest {
            document_hash: document_hash.to_owned(),
            case_id: case_id.to_owned(),
            wait_for: WaitFor::Confirmed.into(),
            wait_timeout: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
            ..Default::default()
        });
        request.set_timeout(Duration::from_secs(30));
        let own_trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        request.metadata_mut().insert("traceparent", own_trace.parse().expect("it is ASCII"));
        match registrar.register_document(request).await {
            Ok(answer) => return answer.into_inner().registration.ok_or_else(|| Status::internal("an empty answer")),
            Err(status) if attempt < 5 && matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => {
                tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
            }
            Err(status) => return Err(status),
        }
    }
    unreachable!("the last attempt returns")
}

/// Branch on the reason, follow accepted work by its id, log the trace id.
pub fn describe(status: &Status) -> String {
    let header = |name| status.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
    let [reason, id, trace_id] = ["x-error-reason", "x-registration-id", "x-trace-id"].map(header);
    format!("{:?} {reason} {id} {trace_id} {}", status.code(), status.message())
}

//! Reports an error: as text for people, with what to do next, or as JSON.

use super::{
    Exit, blocked_reason,
    error::{CliError, code_name},
    hints::hint,
    invocation::Invocation,
    json,
    output::{Output, print_line},
};
use serde_json::{Value, json};

/// JSON goes to standard output, text to standard error.
pub(super) fn report(error: &CliError, output: &Output) -> Exit {
    if output.json {
        print_line(&to_json(error, &output.invocation).to_string());
    } else {
        eprint!("{}", to_text(error, output));
    }
    error.exit()
}

/// `{"error":{…}}`, without unknown values.
pub(super) fn to_json(error: &CliError, invocation: &Invocation) -> Value {
    let mut json = json!({ "code": code_name(error.code), "message": error.message, "exitCode": error.exit().code() });
    let mut put = |key: &str, value: Value| {
        if !value.is_null() && value != "" {
            json[key] = value;
        }
    };
    put("reason", error.reason.code().into());
    put("registrationId", error.registration_id.clone().into());
    put("traceId", error.trace_id.clone().into());
    put("advice", hint(error, invocation).into());
    put("metadata", if error.metadata.is_empty() { Value::Null } else { json!(error.metadata) });
    let fields: Vec<Value> =
        error.fields.iter().map(|(field, problem)| json!({ "field": field, "description": problem })).collect();
    put("fields", if fields.is_empty() { Value::Null } else { fields.into() });
    put("retryAfterSeconds", error.retry_after.map_or(Value::Null, |delay| delay.as_secs_f64().into()));
    put("registration", error.registration.as_ref().map_or(Value::Null, json::to_value));
    put("diagnosis", error.diagnosis.as_ref().map_or(Value::Null, json::to_value));
    json!({ "error": json })
}

fn to_text(error: &CliError, output: &Output) -> String {
    let reason = if error.reason.code().is_empty() { code_name(error.code) } else { error.reason.code() };
    let style = &output.stderr_style;
    let heading = if error.exit() == Exit::Unfinished {
        style.clone().yellow().apply_to("not finished")
    } else {
        style.clone().red().apply_to("error")
    };
    let mut text = format!("{heading}: {} ({reason})\n", error.message);
    let mut add = |label: &str, value: &str| {
        text.push_str(&format!("  {} {value}\n", style.clone().dim().apply_to(format!("{label:<7}"))));
    };
    for (field, problem) in &error.fields {
        add("field", &format!("{field}: {problem}"));
    }
    if let Some(cause) = error.metadata.get("cause") {
        // The server's message contains the explanation unless it was too long.
        let explanation = error.metadata.get("explanation").filter(|text| !error.message.contains(text.as_str()));
        let explanation = explanation.map(|text| format!(": {text}")).unwrap_or_default();
        add("cause", &format!("{cause}{explanation}"));
    }
    if let Some(reason) = error.blocked_reason() {
        add("blocked", &blocked_reason::describe(reason));
    }
    add("next", &hint(error, &output.invocation));
    if !error.trace_id.is_empty() {
        add("trace", &error.trace_id);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::{error::tests::timeout_status, reason::Reason},
        *,
    };
    use crate::{config::Environment, registration::ErrorReason};
    use tonic::Code;

    fn error_for(code: Code, id: &str) -> Box<CliError> {
        let mut error = CliError::new(code, Reason::Unknown(String::new()), String::new());
        error.registration_id = id.to_owned();
        error
    }

    #[test]
    fn an_error_with_details_is_written_as_json() {
        let error = CliError::from_status(&timeout_status());
        let json = to_json(&error, &Invocation::from_argv0("registrar".as_ref()));
        assert_eq!(json["error"]["code"], "DEADLINE_EXCEEDED");
        assert_eq!(json["error"]["reason"], "CONFIRMATION_TIMEOUT");
        assert_eq!(json["error"]["registrationId"], "the-id");
        assert_eq!(json["error"]["registration"]["id"], "the-id");
        assert_eq!(json["error"]["metadata"]["cause"], "nonce_gap");
        assert_eq!(json["error"]["retryAfterSeconds"], 2.0);
        assert!(json["error"].get("diagnosis").is_none());
    }

    #[test]
    fn nothing_is_repeated() {
        let output = Output::from_process(false, &Environment::default());
        let mut timeout = error_for(Code::DeadlineExceeded, "the-id");
        timeout.reason = ErrorReason::ConfirmationTimeout.into();
        timeout.message = "not confirmed in time; processing continues. No node knows it.".into();
        timeout.metadata =
            [("cause", "pending"), ("explanation", "No node knows it.")].map(|(k, v)| (k.into(), v.into())).into();
        let text = to_text(&timeout, &output);
        assert_eq!(text.matches("No node knows it.").count(), 1, "{text}");

        let mut waited = error_for(Code::DeadlineExceeded, "the-id");
        waited.reason = ErrorReason::WaitTimeout.into();
        waited.message = "still QUEUED; processing continues, check again with the id".into();
        let text = to_text(&waited, &output);
        assert_eq!(text.matches("processing continues").count(), 1, "{text}");

        let mut store = CliError::new(Code::Unavailable, ErrorReason::StoreUnavailable, String::new());
        store.message = "the database is not usable; this call changed nothing, try again".into();
        let text = to_text(&store, &output);
        assert_eq!(text.matches("try again").count(), 1, "{text}");
    }
}

//! Messages as canonical protobuf JSON (<https://protobuf.dev/programming-guides/json/>): camelCase names, 64-bit
//! numbers as strings. Fields with their default value are written too: a script that reads `.registered` expects
//! `false`. Only absent optional fields and messages are left out.

use crate::api::proto;
use prost::Name;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use std::sync::OnceLock;

const SERIALIZE_OPTIONS: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

/// Null if the message is not in the compiled descriptors; the tests exclude that.
pub(super) fn to_value<M: Name>(message: &M) -> serde_json::Value {
    to_dynamic(message)
        .and_then(|message| message.serialize_with_options(serde_json::value::Serializer, &SERIALIZE_OPTIONS).ok())
        .unwrap_or_default()
}

/// As [`to_line`], with another key at the end.
pub(super) fn to_line_with<M: Name>(message: &M, key: &str, text: &str) -> String {
    let line = to_line(message);
    format!("{},{}:{}}}", line.strip_suffix('}').unwrap_or(&line), json_text(key), json_text(text))
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One line of JSON, in the order of the fields.
pub(super) fn to_line<M: Name>(message: &M) -> String {
    let mut json = serde_json::Serializer::new(Vec::new());
    to_dynamic(message)
        .and_then(|message| message.serialize_with_options(&mut json, &SERIALIZE_OPTIONS).ok())
        .and_then(|()| String::from_utf8(json.into_inner()).ok())
        .unwrap_or_default()
}

fn to_dynamic<M: Name>(message: &M) -> Option<DynamicMessage> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).ok()).as_ref()?;
    let descriptor = pool.get_message_by_name(&M::full_name())?;
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;

    #[test]
    fn a_registration_is_written_as_canonical_json() {
        let registration = proto::Registration {
            id: "0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11".into(),
            case_id: "CASE-1".into(),
            state: proto::State::Confirmed.into(),
            revision: 7,
            transaction: Some(proto::Transaction {
                nonce: Some(0),
                block_number: Some(u64::MAX),
                batch_size: 3,
                ..Default::default()
            }),
            create_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 }),
            ..Default::default()
        };
        assert_eq!(
            to_line(&registration),
            concat!(
                r#"{"id":"0198c5f2-7f2e-7d3b-9a55-2f1f8f0f8a11","documentHash":"","submittedAs":"","caseId":"CASE-1","#,
                r#""state":"STATE_CONFIRMED","finality":"FINALITY_UNSPECIFIED","revision":"7","blockedReason":"","#,
                r#""transaction":{"hash":"","fromAddress":"","nonce":"0","blockNumber":"18446744073709551615","#,
                r#""blockHash":"","#,
                r#""effectiveGasPriceWei":"","feeWei":"","l1FeeWei":"","batchSize":3,"attempts":0,"explorerUrl":""},"#,
                r#""createTime":"2023-11-14T22:13:20.005Z","traceId":"","warning":"","caller":"","userId":""}"#
            )
        );
    }

    #[test]
    fn another_key_comes_last() {
        let info = proto::GetServiceInfoResponse { max_wait: Some(Default::default()), ..Default::default() };
        let line = to_line_with(&info, "name", "a \"b\"");
        assert!(line.ends_with(r#","name":"a \"b\""}"#), "{line}");
        assert!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["maxWait"].is_string(), "{line}");
    }

    #[test]
    fn an_unregistered_pair_is_false_and_has_no_block() {
        let answer = to_value(&proto::VerifyDocumentResponse { case_id: "CASE-1".into(), ..Default::default() });
        assert_eq!((&answer["registered"], &answer["caseId"]), (&false.into(), &"CASE-1".into()));
        for absent in ["blockNumber", "confirmations", "blockTime"] {
            assert!(answer.get(absent).is_none(), "{answer}");
        }
    }

    #[test]
    fn every_printed_message_is_in_the_descriptors() {
        assert!(to_value(&proto::Diagnosis::default()).is_object());
        assert!(to_value(&proto::DiagnoseRegistrationResponse::default()).is_object());
        assert!(to_value(&proto::VerifyDocumentResponse::default()).is_object());
        assert!(to_value(&proto::GetServiceInfoResponse::default()).is_object());
    }
}

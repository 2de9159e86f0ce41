//! A node's answers as other clients, gateways and load balancers would send them: the same content in another form, or
//! something that is no answer.

use super::node::Lost;
use async_compression::{
    Level,
    tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder},
};
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Response,
    body::{Bytes, Frame},
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `error` beside every result, and `result` beside every error, both null.
    NullMembers,
    /// Without `jsonrpc`, and with the id as text.
    TextId,
    /// In a batch, behind an answer to another request.
    Batch,
    /// Behind a byte order mark, before other text.
    Surrounded,
    Gzip,
    Deflate,
    Brotli,
    /// In chunks of a few bytes.
    Chunked,
    /// Block fields, receipt fields and scalar results with leading zeros.
    LeadingZeros,
    /// The same as JSON numbers.
    JsonNumbers,
    /// Without the members that a client may leave out.
    Sparse,
    /// An HTML page with status 200.
    Html,
    Empty,
    /// Of this many bytes.
    Large(usize),
    /// A body that never ends.
    Endless,
    /// This many brackets.
    Deep(usize),
}

/// The fields whose numbers are respelled.
const NUMBERS: [&str; 8] =
    ["number", "timestamp", "gasLimit", "baseFeePerGas", "blockNumber", "status", "gasUsed", "effectiveGasPrice"];
/// Methods whose result is a number.
const SCALARS: [&str; 5] =
    ["eth_chainId", "eth_blockNumber", "eth_getTransactionCount", "eth_getBalance", "eth_maxPriorityFeePerGas"];
const OPTIONAL: [&str; 7] =
    ["logsBloom", "type", "cumulativeGasUsed", "effectiveGasPrice", "sha3Uncles", "size", "difficulty"];

impl Shape {
    pub(super) async fn apply(self, call: &Value, mut answer: Value) -> Result<Response<BoxBody<Bytes, Lost>>, Lost> {
        let response = Response::builder().header("content-type", "application/json");
        let plain = |text: String| Ok(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
        let (encoding, body) = match self {
            Self::NullMembers => {
                let unused = if answer["error"].is_null() { "error" } else { "result" };
                answer[unused] = Value::Null;
                (None, plain(answer.to_string())?)
            }
            Self::TextId => {
                let members =
                    json!({ "id": answer["id"].to_string(), "result": answer["result"], "error": answer["error"] });
                (None, plain(members.to_string())?)
            }
            Self::Batch => {
                let other = json!({ "jsonrpc": "2.0", "id": 1_000_000, "result": "0x7c1d" });
                (None, plain(json!([other, answer]).to_string())?)
            }
            Self::Surrounded => (None, plain(format!("\u{feff}\r\n {answer}\r\n<!-- served by proxy -->"))?),
            Self::Gzip => (Some("gzip"), compressed(GzipEncoder::new(Vec::new()), &answer).await?),
            Self::Deflate => (Some("deflate"), compressed(ZlibEncoder::new(Vec::new()), &answer).await?),
            Self::Brotli => {
                (Some("br"), compressed(BrotliEncoder::with_quality(Vec::new(), Level::Fastest), &answer).await?)
            }
            Self::Chunked => (None, in_chunks(answer.to_string())),
            Self::LeadingZeros => {
                respell(call, &mut answer, |number| json!(format!("0x{number:032x}")));
                (None, plain(answer.to_string())?)
            }
            Self::JsonNumbers => {
                respell(call, &mut answer, |number| match u64::try_from(number) {
                    Ok(number) => json!(number),
                    Err(_) => json!(number.to_string()),
                });
                (None, plain(answer.to_string())?)
            }
            Self::Sparse => {
                if let Some(members) = answer["result"].as_object_mut() {
                    OPTIONAL.iter().for_each(|name| drop(members.remove(*name)));
                }
                (None, plain(answer.to_string())?)
            }
            Self::Html => (None, plain("<html><body>It works!</body></html>".to_owned())?),
            Self::Empty => (None, plain(String::new())?),
            Self::Large(bytes) => {
                // Not by a JSON library, which would hold up every other task of the test.
                let (id, zeros) = (&answer["id"], "0".repeat(bytes));
                (None, plain(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"0x{zeros}"}}"#))?)
            }
            Self::Endless => {
                let chunk = || Ok(Frame::data(Bytes::from_static(&[b' '; 1 << 10])));
                (None, BodyExt::boxed(StreamBody::new(stream::repeat_with(chunk))))
            }
            Self::Deep(levels) => {
                let id = &answer["id"];
                (None, plain(format!(r#"{{"id":{id},"result":{}{}}}"#, "[".repeat(levels), "]".repeat(levels)))?)
            }
        };
        let response = match encoding {
            Some(encoding) => response.header("content-encoding", encoding),
            None => response,
        };
        response.body(body).map_err(|_| Lost::Closed)
    }
}

fn in_chunks(text: String) -> BoxBody<Bytes, Lost> {
    let chunks: Vec<_> =
        text.as_bytes().chunks(7).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    BodyExt::boxed(StreamBody::new(stream::iter(chunks)))
}

async fn compressed<W>(mut encoder: W, answer: &Value) -> Result<BoxBody<Bytes, Lost>, Lost>
where
    W: AsyncWriteExt + Unpin + Into<Compressed>,
{
    encoder.write_all(answer.to_string().as_bytes()).await.map_err(|_| Lost::Closed)?;
    encoder.shutdown().await.map_err(|_| Lost::Closed)?;
    let Compressed(bytes) = encoder.into();
    Ok(Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed())
}

struct Compressed(Vec<u8>);

impl From<GzipEncoder<Vec<u8>>> for Compressed {
    fn from(encoder: GzipEncoder<Vec<u8>>) -> Self {
        Self(encoder.into_inner())
    }
}

impl From<ZlibEncoder<Vec<u8>>> for Compressed {
    fn from(encoder: ZlibEncoder<Vec<u8>>) -> Self {
        Self(encoder.into_inner())
    }
}

impl From<BrotliEncoder<Vec<u8>>> for Compressed {
    fn from(encoder: BrotliEncoder<Vec<u8>>) -> Self {
        Self(encoder.into_inner())
    }
}

fn respell(call: &Value, answer: &mut Value, spell: impl Fn(u128) -> Value) {
    let respelled = |value: &Value| Some(spell(u128::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()?));
    let method = call["method"].as_str().unwrap_or_default();
    let result = &mut answer["result"];
    if SCALARS.contains(&method) {
        *result = respelled(result).unwrap_or_else(|| result.clone());
    }
    if let Some(members) = result.as_object_mut() {
        for name in NUMBERS {
            if let Some(number) = members.get(name).and_then(respelled) {
                members.insert(name.to_owned(), number);
            }
        }
    }
}

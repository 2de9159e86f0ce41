//! What `registrar dev` prints: addresses, and calls that can be pasted.

use crate::{cli::invocation::Invocation, config::Environment};
use alloy::primitives::Address;
use std::net::SocketAddr;

/// The sha2-256 of the five bytes `hello`.
const HELLO_SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// A running development stack.
pub(super) struct StackInfo {
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    /// Whether the operator page is on.
    pub has_page: bool,
    pub rpc_url: String,
    pub anvil_pid: u32,
    pub contract: Address,
}

pub(super) fn render(stack: &StackInfo, invocation: Invocation) -> String {
    let StackInfo { grpc, admin, has_page, rpc_url, anvil_pid, contract } = stack;
    // The environment of the other terminal is not known.
    let invocation = invocation.with_server(&format!("http://{grpc}"), &Environment::default());
    format!(
        "\
registrar is running. Press Ctrl-C to stop; all data is deleted.

  gRPC       {grpc}
  HTTP       http://{admin}/metrics  /healthz  /readyz
{page}  chain      {rpc_url} (anvil, chain 31337, process {anvil_pid})
  contract   {contract}

Register the document `hello` from another terminal:

  # with the command line
  {register}
  {verify}

  # with curl, in JSON (Connect)
  curl -H 'content-type: application/json' -d '{{\"documentHash\": \"{HELLO_SHA256}\", \"caseId\": \"HELLO-1\"}}' \\
    http://{grpc}/registrar.v1.RegistrarService/RegisterDocument

  # with grpcurl
  grpcurl -plaintext -d '{{\"documentHash\": \"{HELLO_SHA256}\", \"caseId\": \"HELLO-1\"}}' \\
    {grpc} registrar.v1.RegistrarService/RegisterDocument

  # with Python (pip install grpcio grpcio-reflection)
{python}
",
        register = invocation.server_command(&format!("register {HELLO_SHA256} --case HELLO-1")),
        page = if *has_page { format!("  operators  http://{admin}/ui/\n") } else { String::new() },
        verify = invocation.server_command(&format!("verify   {HELLO_SHA256} --case HELLO-1")),
        python = python_example(&grpc.to_string())
    )
}

/// Needs no generated code because of server reflection. Not indented, so that it can be pasted.
fn python_example(server: &str) -> String {
    format!(
        "\
python3 - <<'EOF'
import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel('{server}')
pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
service = pool.FindServiceByName('registrar.v1.RegistrarService')
method = service.methods_by_name['RegisterDocument']
Request = message_factory.GetMessageClass(method.input_type)
Response = message_factory.GetMessageClass(method.output_type)
register = channel.unary_unary('/registrar.v1.RegistrarService/RegisterDocument',
                               request_serializer=Request.SerializeToString,
                               response_deserializer=Response.FromString)
print(register(Request(document_hash='{HELLO_SHA256}', case_id='HELLO-1'), timeout=60))
EOF"
    )
}

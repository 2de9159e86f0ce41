//! What `registrar dev` shows: what runs, and calls that work as they are pasted.

use super::{super::invocation::Invocation, StackInfo};
use crate::config::Environment;

/// The sha2-256 of the five bytes `hello`, so that every call below is about one document.
const HELLO_SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// The whole screen.
pub(super) fn render(stack: &StackInfo, program: Invocation) -> String {
    let StackInfo { grpc, admin, rpc_url: rpc, anvil_pid: anvil, contract, .. } = stack;
    // What another terminal has in its environment is not known.
    let program = program.with_server(&format!("http://{grpc}"), &Environment::default());
    format!(
        "\
registrar is running. Ctrl-C ends it; nothing of it stays.

  gRPC       {grpc}
  HTTP       http://{admin}/metrics  /healthz  /readyz
  chain      {rpc} (anvil, chain 31337, process {anvil})
  contract   {contract}

Register the document `hello` from another terminal:

  # with this command line
  {register}
  {verify}

  # with grpcurl
  grpcurl -plaintext -d '{{\"documentHash\": \"{HELLO_SHA256}\", \"caseId\": \"HELLO-1\"}}' \\
    {grpc} registrar.v1.RegistrarService/RegisterDocument

  # with Python (pip install grpcio grpcio-reflection)
{python}
",
        register = program.server_command(&format!("register {HELLO_SHA256} --case HELLO-1")),
        verify = program.server_command(&format!("verify   {HELLO_SHA256} --case HELLO-1")),
        python = python_example(&grpc.to_string())
    )
}

/// Needs no generated code: the messages come by reflection. At column zero, so that it can be pasted.
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
print(register(Request(document_hash='{HELLO_SHA256}', case_id='HELLO_SHA256-1'), timeout=60))
EOF"
    )
}

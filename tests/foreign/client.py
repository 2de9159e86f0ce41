"""Registers one document from Python and prints the outcome as one line of JSON.

usage: client.py SERVER PROTO_FOLDER REQUEST_JSON DEADLINE_SECONDS METADATA_JSON

The metadata is a list of pairs, because a key may occur twice.

The stubs are generated at run time from the proto; everything else is plain grpcio.
"""

import importlib.resources
import json
import sys
import tempfile
import time

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc


def generate_stubs(proto_folder):
    """Compiles the proto into a temporary folder and imports the result."""
    folder = tempfile.mkdtemp(prefix="registrar-python-")
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    failed = protoc.main([
        "protoc", f"-I{proto_folder}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}",
        "registrar/v1/registrar.proto",
    ])
    if failed:
        sys.exit("the stubs could not be generated")
    sys.path.insert(0, folder)
    from registrar.v1 import registrar_pb2, registrar_pb2_grpc

    return registrar_pb2, registrar_pb2_grpc


def details_of(error, messages):
    """The typed details of an error, by message name."""
    status = rpc_status.from_call(error)
    found = {}
    for detail in status.details if status else []:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo,
                     messages.RegistrationErrorDetail):
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                found[kind.DESCRIPTOR.name] = json_format.MessageToDict(message)
    return found


def main(server, proto_folder, request, deadline, metadata):
    messages, services = generate_stubs(proto_folder)
    request = json_format.ParseDict(json.loads(request), messages.RegisterDocumentRequest())
    with grpc.insecure_channel(server) as channel:
        grpc.channel_ready_future(channel).result(timeout=20)
        stub = services.RegistrarServiceStub(channel)
        started = time.monotonic()
        try:
            response, call = stub.RegisterDocument.with_call(
                request, timeout=float(deadline), metadata=[tuple(pair) for pair in json.loads(metadata)])
            outcome = {"code": "OK", "registration": json_format.MessageToDict(response.registration)}
            received = list(call.initial_metadata()) + list(call.trailing_metadata())
        except grpc.RpcError as error:
            outcome = {"code": error.code().name, "message": error.details(), "details": details_of(error, messages)}
            received = list(error.initial_metadata() or []) + list(error.trailing_metadata() or [])
        outcome["seconds"] = time.monotonic() - started
        outcome["metadata"] = {key: value for key, value in received if isinstance(value, str)}
        print(json.dumps(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])

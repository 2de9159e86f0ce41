import sys

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status
from registrar.v1.registrar_pb2 import RegisterDocumentRequest, RegistrationErrorDetail, State, WAIT_FOR_CONFIRMED
from registrar.v1.registrar_pb2_grpc import RegistrarServiceStub

server, document_hash, case_id = sys.argv[1:]
registrar = RegistrarServiceStub(grpc.insecure_channel(server))
request = RegisterDocumentRequest(
    document_hash=document_hash,
    case_id=case_id,
    wait_for=WAIT_FOR_CONFIRMED,
    wait_timeout=Duration(seconds=20),
)
try:
    registration = registrar.RegisterDocument(request, timeout=30).registration
    print(registration.id, State.Name(registration.state), registration.transaction.hash)
except grpc.RpcError as error:
    trailers = dict(error.trailing_metadata() or ())
    print(error.code().name, trailers.get("x-error-reason"), trailers.get("x-registration-id"), error.details())
    status = rpc_status.from_call(error)  # the same as typed details; None if the error is not the service's own
    for detail in status.details if status else ():
        for kind in (BadRequest, ErrorInfo, RetryInfo, RegistrationErrorDetail):
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                print(message)

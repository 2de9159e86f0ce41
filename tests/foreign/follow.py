import sqlite3
import sys
import time

import grpc
from registrar.v1.registrar_pb2 import State, WatchChangesRequest
from registrar.v1.registrar_pb2_grpc import RegistrarServiceStub

server, file = sys.argv[1:]
store = sqlite3.connect(file)
store.execute("CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, revision INTEGER, state TEXT)")
store.execute("CREATE TABLE IF NOT EXISTS feed (cursor TEXT)")
# A server that does not answer a ping for 10 s is gone.
options = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000)]


def handle(registration):
    """May be called twice for one change: it replaces what is older."""
    store.execute(
        "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET revision = excluded.revision,"
        " state = excluded.state WHERE excluded.revision > documents.revision",
        (registration.id, registration.revision, State.Name(registration.state)),
    )


while True:
    saved = store.execute("SELECT cursor FROM feed").fetchone()
    request = WatchChangesRequest(after_cursor=saved[0]) if saved else WatchChangesRequest(from_beginning=True)
    try:
        with grpc.insecure_channel(server, options) as channel:
            for message in RegistrarServiceStub(channel).WatchChanges(request, wait_for_ready=True):
                with store:  # one commit: the work, and the cursor from which to continue
                    if message.HasField("registration"):
                        handle(message.registration)
                    store.execute("DELETE FROM feed")
                    store.execute("INSERT INTO feed VALUES (?)", (message.cursor,))
    except grpc.RpcError as error:
        reason = dict(error.trailing_metadata() or ()).get("x-error-reason")
        if reason == "CURSOR_FOREIGN":  # a backup was restored, or it is another database: what is stored is void
            with store:
                store.execute("DELETE FROM feed")
                store.execute("DELETE FROM documents")
        elif error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
            raise
        print("reconnecting:", error.code().name, reason, flush=True)
        time.sleep(1)

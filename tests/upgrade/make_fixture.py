#!/usr/bin/env python3
"""Writes the database that a version of the registrar leaves behind, with work in flight, and the chain it was on.

The upgrade tests (tests/it/upgrade) open each of them with the current version. A new one is made once for a version
of the schema, with a binary of that version:

    tests/upgrade/make_fixture.py target/debug/registrar sqlite tests/upgrade/schema-13/sqlite
    tests/upgrade/make_fixture.py target/debug/registrar postgres tests/upgrade/schema-13/postgres

The scenario: three confirmed registrations, one whose transaction is signed and sent and in no block, and one that is
queued because its signer cannot pay. Then the service is killed.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The program itself: the command of the npm package leaves it running when it is killed.
ANVIL = next((ROOT / "contracts/node_modules/@foundry-rs").glob("anvil-*/bin/anvil"))
# Public keys of anvil's test accounts 0 and 1; account 1 signs.
OWNER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
SIGNER_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
SIGNER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CASE = "UPGRADE-1"
USER = "user-1"
CONFIRMED, PENDING, QUEUED = [1, 2, 3], [4], [5]
TIMEOUT_SECONDS = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, condition):
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"{what}: not within {TIMEOUT_SECONDS} s")


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def rpc(port, method, *params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}", body, {"content-type": "application/json"})
    answer = json.load(urllib.request.urlopen(request))
    if "error" in answer:
        sys.exit(f"{method}: {answer['error']}")
    return answer["result"]


class Postgres:
    """A server of its own, as the user postgres when this is root, which PostgreSQL refuses."""

    def __init__(self, directory):
        self.programs = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
        self.data, self.port = directory / "postgres", free_port()
        self.data.mkdir()
        self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if self.user:
            directory.chmod(0o755)
            subprocess.run(["chown", "postgres:", self.data], check=True)
        self.run("initdb", "-D", self.data, "-U", "registrar", "--auth=trust", "-E", "UTF8")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.run("pg_ctl", "-D", self.data, "-w", "-o", options, "-l", self.data / "log", "start")
        self.url = f"postgres://registrar@127.0.0.1:{self.port}/postgres"

    def run(self, program, *arguments):
        command = [*self.user, self.programs / program, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd="/").stdout

    def dump(self):
        dump = self.run("pg_dump", "-d", self.url, "--inserts", "--no-owner", "--no-privileges")
        # Commands that only the newest psql knows.
        return "".join(line for line in dump.splitlines(True) if not line.startswith(("\\restrict", "\\unrestrict")))

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")


class Scenario:
    def __init__(self, binary, directory, database_url):
        self.binary, self.directory, self.database_url = binary, directory, database_url
        self.chain_port, self.grpc, self.admin = free_port(), free_port(), free_port()
        self.processes = []
        self.anvil = self.start(
            [ANVIL, "--port", str(self.chain_port), "--dump-state", directory / "chain.json", "--quiet"], {})
        until("anvil", lambda: answers(self.chain_port))
        network = {"REGISTRAR_RPC_URLS": f"http://127.0.0.1:{self.chain_port}", "REGISTRAR_CHAIN_ID": "31337"}
        owner = {**network, "REGISTRAR_SIGNER_KEYS": f"{OWNER_KEY},{SIGNER_KEY}"}
        self.contract = self.call(["deploy"], owner).strip()
        self.service = self.start([binary, "serve"], {
            **network,
            "REGISTRAR_SIGNER_KEYS": SIGNER_KEY,
            "REGISTRAR_CONTRACT_ADDRESS": self.contract,
            "REGISTRAR_DATABASE_URL": database_url,
            "REGISTRAR_LISTEN": f"127.0.0.1:{self.grpc}",
            "REGISTRAR_ADMIN_LISTEN": f"127.0.0.1:{self.admin}",
        })
        until("the service", lambda: answers(self.grpc))

    def start(self, command, variables):
        environment = {"PATH": os.environ["PATH"], "RUST_LOG": "warn", **variables}
        self.processes.append(subprocess.Popen(command, env=environment, cwd=self.directory))
        return self.processes[-1]

    def call(self, arguments, variables=None):
        environment = {"PATH": os.environ["PATH"], "REGISTRAR_SERVER": f"http://127.0.0.1:{self.grpc}",
                       **(variables or {})}
        command = [self.binary, *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    def register(self, number, level):
        document = self.directory / f"document-{number}"
        document.write_text(f"document {number}")
        self.call(["register", document, "--case", CASE, "--user-id", USER, "--wait-for", level, "--json"])

    def registrations(self):
        return [json.loads(line) for line in self.call(["list", "--json"]).splitlines()]

    def wait_for(self, state, count):
        until(state, lambda: [found["state"] for found in self.registrations()].count(f"STATE_{state}") == count)

    def play(self):
        for number in CONFIRMED:
            self.register(number, "confirmed")
        rpc(self.chain_port, "evm_setAutomine", False)
        for number in PENDING:
            self.register(number, "submitted")
        self.wait_for("SUBMITTED", len(PENDING))
        rpc(self.chain_port, "anvil_setBalance", SIGNER, "0x0")
        for number in QUEUED:
            self.register(number, "accepted")
        until("a blocked registration", lambda: any(found.get("blockedReason") for found in self.registrations()))
        left = self.registrations()
        self.service.kill()
        self.service.wait()
        # It is not part of the chain's state, and has to be sent again.
        rpc(self.chain_port, "anvil_dropAllTransactions")
        rpc(self.chain_port, "anvil_setBalance", SIGNER, hex(10**20))
        self.anvil.send_signal(signal.SIGINT)
        self.anvil.wait(TIMEOUT_SECONDS)
        return {"contract": self.contract, "registrations": left}

    def stop(self):
        for process in self.processes:
            process.kill()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=pathlib.Path, help="registrar of the version")
    arguments.add_argument("engine", choices=["sqlite", "postgres"])
    arguments.add_argument("output", type=pathlib.Path, help="directory to create")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        postgres = Postgres(directory) if options.engine == "postgres" else None
        database = directory / "registrar.db"
        url = postgres.url if postgres else f"sqlite://{database}"
        scenario = Scenario(options.binary.resolve(), directory, url)
        try:
            left = scenario.play()
            dump = postgres.dump() if postgres else sqlite_dump(database)
        finally:
            scenario.stop()
            if postgres:
                postgres.stop()
        options.output.mkdir(parents=True)
        (options.output / "database.sql").write_text(dump)
        (options.output / "chain.json").write_bytes((directory / "chain.json").read_bytes())
        (options.output / "left.json").write_text(json.dumps(left, indent=2) + "\n")


def sqlite_dump(database):
    import sqlite3
    with sqlite3.connect(database) as connection:
        return "\n".join(connection.iterdump()) + "\n"


if __name__ == "__main__":
    main()

"""Verifies a certificate of the Registrar. Needs Python 3.9 or later and `pip install pycryptodome`.

usage: certificate.py CERTIFICATE [--document FILE] [--block-hash 0x...]
exit codes: 0 valid; 1 invalid; 75 valid, but the block hash was not compared
"""

import argparse
import hashlib
import json
import re
import sys
from datetime import datetime, timezone

from Crypto.Hash import keccak

MAX_BYTES = 65536
MEMBERS = (
    "version chain.id chain.name contract document.sha256 document.caseId record.registrar record.blockNumber"
    " record.time block.number block.hash block.header block.finality block.seenBy block.seenAt state.slot"
    " state.accountProof state.storageProof transaction.hash howToVerify"
).split()


class Invalid(Exception):
    pass


def require(condition, problem):
    if not condition:
        raise Invalid(problem)


def keccak256(data):
    return keccak.new(digest_bits=256, data=data).digest()


def from_hex(text):
    require(re.fullmatch("0x([0-9a-f]{2})*", text), f"{text[:80]!r} is not lower-case hex")
    return bytes.fromhex(text[2:])


def decode_rlp(data):
    item, rest = decode_item(data)
    require(not rest, "there is more than one RLP item")
    return item


def decode_item(data):
    require(data, "the RLP ends early")
    if data[0] < 0x80:
        return data[:1], data[1:]
    is_list = data[0] >= 0xC0
    length, start = data[0] - (0xC0 if is_list else 0x80), 1
    if length > 55:
        start += length - 55
        length = int.from_bytes(data[1:start], "big")
    payload, rest = data[start : start + length], data[start + length :]
    require(len(payload) == length, "the RLP ends early")
    if not is_list:
        return payload, rest
    items = []
    while payload:
        item, payload = decode_item(payload)
        items.append(item)
    return items, rest


def prove(root, key, proof):
    """The value at keccak256(key) in the Merkle Patricia trie with this root."""
    path, expected = keccak256(key).hex(), root
    for index, node in enumerate(proof):
        require(keccak256(node) == expected, f"node {index} of a proof does not have the hash that its parent names")
        items = decode_rlp(node)
        if len(items) == 17:
            require(path, "a proof is longer than its key")
            expected, path = items[int(path[0], 16)], path[1:]
        else:
            flag, nibbles = items[0].hex()[0], items[0].hex()
            nibbles = nibbles[1:] if flag in "13" else nibbles[2:]
            require(path.startswith(nibbles), "a proof leads to another key: nothing is stored at this one")
            expected, path = items[1], path[len(nibbles) :]
            if flag in "23":
                require(not path and index == len(proof) - 1, "a proof does not end with its leaf")
                return items[1]
        require(isinstance(expected, bytes) and len(expected) == 32, "nothing is stored at the key of a proof")
    raise Invalid("a proof ends before its leaf")


def verify(text, document=None, block_hash=None):
    """Returns what the certificate proves."""
    require(len(text) <= MAX_BYTES, "the file is too large")
    certificate = json.loads(text)
    require(type(certificate) is dict and certificate.get("version") == 1, "the version is not 1")
    names = []
    for name, value in certificate.items():
        names += [f"{name}.{inner}" for inner in value] if type(value) is dict else [name]
    require(names == MEMBERS, "the members are not those of version 1, in their order")
    canonical = json.dumps(certificate, separators=(",", ":"), ensure_ascii=False) + "\n"
    require(canonical.encode() == text, "the file was formatted or edited after it was issued")
    record, block, state = certificate["record"], certificate["block"], certificate["state"]
    numbers = [certificate["version"], certificate["chain"]["id"], record["blockNumber"], block["number"]]
    require(all(type(number) is int for number in numbers), "a number is not an integer")

    sha256 = from_hex(certificate["document"]["sha256"])
    require(document is None or hashlib.sha256(document).digest() == sha256, "it is about another document")

    header = from_hex(block["header"])
    require(keccak256(header) == from_hex(block["hash"]), "block.header does not have the hash block.hash")
    fields = decode_rlp(header)
    number, timestamp = (int.from_bytes(fields[index], "big") for index in (8, 11))
    require(number == block["number"], "block.number is not that of the header")

    contract = from_hex(certificate["contract"])
    account = decode_rlp(prove(fields[3], contract, [from_hex(node) for node in state["accountProof"]]))
    key = keccak256(sha256 + keccak256(certificate["document"]["caseId"].encode()))
    slot = keccak256(key + (3).to_bytes(32, "big"))
    require(from_hex(state["slot"]) == slot, "state.slot is not the slot of this document and case")
    value = decode_rlp(prove(account[2], slot, [from_hex(node) for node in state["storageProof"]]))
    word = int.from_bytes(value, "big")
    registrar, recorded_in, time = word % 2**160, word >> 160 & 2**48 - 1, word >> 208
    require(registrar == int.from_bytes(from_hex(record["registrar"]), "big") != 0, "record.registrar is not proved")
    require(recorded_in == record["blockNumber"] <= number, "record.blockNumber is not proved")
    when = datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    require(when == record["time"] and time <= timestamp, "record.time is not proved")
    require(block_hash in (None, block["hash"]), "its block is not the block that is known to be right")
    return f"registered by {record['registrar']} in block {recorded_in} at {when}, as of block {number} {block['hash']}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("certificate", type=argparse.FileType("rb"))
    arguments.add_argument("--document", type=argparse.FileType("rb"))
    arguments.add_argument("--block-hash", type=str.lower)
    given = arguments.parse_args()
    document = given.document and given.document.read()
    try:
        proved = verify(given.certificate.read(MAX_BYTES + 1), document, given.block_hash)
    except (Invalid, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        print(f"invalid certificate: {error}")
        return 1
    print(proved)
    return 0 if given.block_hash else 75


if __name__ == "__main__":
    sys.exit(main())

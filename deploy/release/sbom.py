"""sbom.py INPUT OUTPUT: makes the SBOM of cargo-cyclonedx the same on every machine.

The place where the project was built is taken out, the time is that of SOURCE_DATE_EPOCH, and the serial number follows
from the content instead of being random.
"""

import datetime
import hashlib
import json
import os
import sys
import uuid

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index#"
PROJECT = "path+file:///registrar#registrar@"


def references(value):
    """Every `bom-ref` below a value."""
    if isinstance(value, dict):
        yield from ([value["bom-ref"]] if "bom-ref" in value else [])
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def normalised(text, epoch):
    # It begins the references of the program and the library too.
    project = json.loads(text)["metadata"]["component"]
    sbom = json.loads(text.replace(project["bom-ref"], PROJECT + project["version"]))
    for reference in references(sbom):
        if not reference.startswith((REGISTRY, PROJECT)):
            sys.exit(f"{reference} is neither of crates.io nor of this project")
    sbom["components"].sort(key=lambda component: component["bom-ref"])
    sbom["dependencies"].sort(key=lambda dependency: dependency["ref"])
    for dependency in sbom["dependencies"]:
        dependency.get("dependsOn", []).sort()
    time = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    sbom["metadata"]["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    sbom.pop("serialNumber", None)
    content = json.dumps(sbom, sort_keys=True).encode()
    sbom["serialNumber"] = uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=5).urn
    return json.dumps(sbom, sort_keys=True, indent=1) + "\n"


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = normalised(file.read(), int(os.environ["SOURCE_DATE_EPOCH"]))
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


main()

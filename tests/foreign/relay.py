"""Normalises events and transactions as Sentry does on ingestion, and prints its findings as JSON.

usage: relay.py < ITEMS_JSON

ITEMS_JSON is a list of event and transaction payloads. A finding is an entry that Sentry would add under
`_meta` (an invalid value, an unknown attribute, a truncated text), or the reason why it would reject the whole item.
"""

import json
import sys

from sentry_relay.exceptions import RelayError
from sentry_relay.processing import StoreNormalizer

# Sentry's own limits: https://github.com/getsentry/relay/blob/master/relay-config/src/config.rs
LIMITS = {"max_secs_in_future": 60, "max_secs_in_past": 30 * 24 * 3600}
NORMALIZER = StoreNormalizer(project_id=1, protocol_version="7", enable_trimming=True, remove_other=True, **LIMITS)


def notes(meta, path=()):
    """The entries of `_meta`, with the path of the value that each is about."""
    for key, inner in (meta or {}).items():
        if key == "":
            yield ".".join(path), json.dumps(inner)
        else:
            yield from notes(inner, (*path, key))


def findings(number, item):
    """The findings for one item."""
    try:
        normalised = NORMALIZER.normalize_event(item)
    except RelayError as error:
        yield {"item": number, "path": "", "problem": str(error).splitlines()[0]}
        return
    for path, problem in notes(normalised.get("_meta")):
        yield {"item": number, "path": path, "problem": problem}


if __name__ == "__main__":
    items = json.load(sys.stdin)
    json.dump([finding for number, item in enumerate(items) for finding in findings(number, item)], sys.stdout)

"""Prints a YAML file as JSON. A key that occurs twice in a mapping is an error."""

import json
import re
import sys

import yaml


class Loader(yaml.SafeLoader):
    """YAML 1.2, as compose and GitHub read it: `on` is a word, and only `true` and `false` are booleans."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def construct_mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"twice in one mapping: {', '.join(map(str, twice))}{node.start_mark}")
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct_mapping)

with open(sys.argv[1], encoding="utf-8") as file:
    json.dump(yaml.load(file, Loader=Loader), sys.stdout)

"""The JSON Schema of `gn.GraphDef.to_json`, kept in `schemas/`, where `make schemas` writes it.

Written by hand, but for the static values, of which the table of their kinds knows the form.
"""

from typing import Any, Final

from graphnode import optim as optim  # whose values have JSON of their own
from graphnode._static import value_schema

GRAPHDEF: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A graphdef of graphnode",
    "description": "What GraphDef.to_json writes and GraphDef.from_json reads: the structure of a graph of "
    "nodes, without arrays.",
    "type": "object",
    "required": ["graphnode", "classes", "specs", "tokens"],
    "additionalProperties": False,
    "properties": {
        "graphnode": {"description": "The version of this form.", "const": 1},
        "classes": {
            "description": "The node and State classes by module and name; specs refer to them by position.",
            "type": "array",
            "items": {"type": "string"},
        },
        "specs": {
            "description": "What one node or State is; tokens refer to them by position.",
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/$defs/node"}, {"$ref": "#/$defs/state"}]},
        },
        "tokens": {
            "description": "The objects in pre-order, each field in the order of its name.",
            "type": "array",
            "prefixItems": [{"anyOf": [{"$ref": "#/$defs/root"}, {"$ref": "#/$defs/token"}]}],
            "items": {"$ref": "#/$defs/token"},
            "minItems": 1,
        },
    },
    "$defs": {
        "index": {"type": "integer", "minimum": 0},
        "node": {
            "type": "object",
            "required": ["node", "static", "held"],
            "additionalProperties": False,
            "properties": {
                "node": {"description": "Its class.", "$ref": "#/$defs/index"},
                "static": {
                    "description": "Its static values by field.",
                    "type": "object",
                    "additionalProperties": {"$ref": "#/$defs/value"},
                },
                "held": {
                    "description": "The shape of what its other fields hold.",
                    "type": "object",
                    "additionalProperties": {"anyOf": [{"const": "unset"}, {"$ref": "#/$defs/shape"}]},
                },
            },
        },
        "state": {
            "type": "object",
            "required": ["state"],
            "additionalProperties": False,
            "properties": {
                "state": {"description": "Its class.", "$ref": "#/$defs/index"},
                "name": {"type": "string"},
                "tag": {"type": "string"},
                "sharding": {"$ref": "#/$defs/value"},
                "metadata": {"type": "object", "additionalProperties": {"$ref": "#/$defs/value"}},
                "stacked": {
                    "description": "Position and name of each axis of gn.stack(name=...), in order.",
                    "type": "array",
                    "items": {
                        "type": "array",
                        "prefixItems": [{"type": "integer", "minimum": 0}, {"type": "string"}],
                        "items": False,
                        "minItems": 2,
                    },
                },
            },
        },
        "token": {
            "oneOf": [
                {
                    "description": "An object that is seen first, of a spec.",
                    "type": "object",
                    "required": ["new"],
                    "additionalProperties": False,
                    "properties": {"new": {"$ref": "#/$defs/index"}},
                },
                {
                    "description": "An object that was seen before, by its number among the new ones.",
                    "type": "object",
                    "required": ["again"],
                    "additionalProperties": False,
                    "properties": {"again": {"$ref": "#/$defs/index"}},
                },
            ]
        },
        "root": {
            "description": "Stands first where the root is a pytree of nodes.",
            "type": "object",
            "required": ["root"],
            "additionalProperties": False,
            "properties": {"root": {"$ref": "#/$defs/tree"}},
        },
        "tree": {
            "oneOf": [
                {"const": None},
                {"const": "object"},
                {"$ref": "#/$defs/list", "properties": {"list": {"items": {"$ref": "#/$defs/tree"}}}},
                {"$ref": "#/$defs/tuple", "properties": {"tuple": {"items": {"$ref": "#/$defs/tree"}}}},
                {
                    "$ref": "#/$defs/dict",
                    "properties": {
                        "dict": {"items": {"prefixItems": [{"type": ["string", "integer"]}, {"$ref": "#/$defs/tree"}]}}
                    },
                },
            ]
        },
        "shape": {
            "oneOf": [
                {"const": None},
                {"description": "A State or a node: the next token says which.", "const": "object"},
                {
                    "description": "A list of so many States or nodes.",
                    "type": "object",
                    "required": ["list"],
                    "additionalProperties": False,
                    "properties": {"list": {"$ref": "#/$defs/index"}},
                },
                {"$ref": "#/$defs/list", "properties": {"list": {"items": {"$ref": "#/$defs/shape"}}}},
                {"$ref": "#/$defs/tuple", "properties": {"tuple": {"items": {"$ref": "#/$defs/shape"}}}},
                {
                    "$ref": "#/$defs/dict",
                    "properties": {"dict": {"items": {"prefixItems": [{"type": "string"}, {"$ref": "#/$defs/shape"}]}}},
                },
            ]
        },
        "list": {
            "type": "object",
            "required": ["list"],
            "additionalProperties": False,
            "properties": {"list": {"type": "array"}},
        },
        "tuple": {
            "type": "object",
            "required": ["tuple"],
            "additionalProperties": False,
            "properties": {"tuple": {"type": "array"}},
        },
        "dict": {
            "type": "object",
            "required": ["dict"],
            "additionalProperties": False,
            "properties": {"dict": {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}}},
        },
        "value": value_schema(),
        "values": {"type": "array", "items": {"$ref": "#/$defs/value"}},
    },
}

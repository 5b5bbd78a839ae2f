"""The inventory's JSON Schema, for editors: what `paddock schema` prints."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from inventory.schema import Document
from roles import ROLES, settings_of
from roles.role import meanings

HOST_KEY = r"^[a-z0-9-]*(\[[0-9]+:[0-9]+\])?[a-z0-9-]*$"


def document_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an inventory file. An editor takes it by the line `# yaml-language-server: $schema=FILE`.

    What only shows between two keys (a model that is not there, two services on one port) it cannot say: `paddock check` does.
    """
    schema = _named(Document.model_json_schema(schema_generator=_WithMeanings))
    definitions: dict[str, Any] = schema["$defs"]
    fields = schema["properties"]
    fields["hosts"] |= {"propertyNames": {"pattern": HOST_KEY}, "minProperties": 1}
    for name in ("groups", "models", "clients", "users"):
        fields[name]["additionalProperties"] = _or_nothing(fields[name]["additionalProperties"])
    for name in ("defaults", "groups", "models", "clients", "users"):
        fields[name] |= {"type": ["object", "null"]} if "type" in fields[name] else _or_nothing({"$ref": fields[name].pop("$ref")})
    for name in ("HostDefaults", "Group", "HostEntry"):
        for key in ("roles", "lab"):
            field = definitions[name]["properties"][key]
            field |= _or_nothing({"$ref": field.pop("$ref")})
            del field["default"]  # long, and nothing but the defaults of what is in it
    del fields["defaults"]["default"]
    for name in _in_roles(definitions):
        definitions[name].pop("required", None)  # what one place leaves out, another that is merged in may say
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "A Paddock inventory",
        "examples": [
            {
                "fleet": "home",
                "domain": "home.example",
                "networks": ["192.0.2.0/24"],
                "hosts": {"pi[1:3]": {"address": "192.0.2.[11:13]", "roles": {"llama_cpp": None}}},
            }
        ],
    }


class _WithMeanings(GenerateJsonSchema):
    """A key's description is what the docstring below its field says."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        generated = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, words in meanings(model).items():
            generated["properties"][name]["description"] = words
        return generated


def _named(schema: Any) -> Any:
    """The schema in which a pattern for a mapping's keys is one for all of them: pydantic's lets any other key pass."""
    if isinstance(schema, list):
        return [_named(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _named(value) for key, value in schema.items()}
    for pattern, value in schema.pop("patternProperties", {}).items():
        schema |= {"propertyNames": {"pattern": pattern}, "additionalProperties": value}
    return schema


def _or_nothing(schema: dict[str, Any]) -> dict[str, Any]:
    """`base:` with nothing after it is valid too."""
    return {"anyOf": [schema, {"type": "null"}]}


def _in_roles(definitions: dict[str, Any]) -> set[str]:
    """The definitions that a role's settings are made of."""
    found: set[str] = set()
    ahead = {settings_of(role).__name__ for role in ROLES}
    while ahead:
        name = ahead.pop()
        found.add(name)
        ahead |= set(_references(definitions[name])) - found
    return found


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        here = [schema["$ref"].rpartition("/")[2]] if isinstance(schema.get("$ref"), str) else []
        return here + [name for value in schema.values() for name in _references(value)]
    return [name for value in schema for name in _references(value)] if isinstance(schema, list) else []

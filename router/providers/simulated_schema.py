"""A JSON value that fits a JSON schema, for tool arguments and structured answers.

It knows what OpenAI's structured outputs allow (types, properties, required, enum, const, items, anyOf, oneOf, allOf,
local $ref, bounds of numbers, lengths and counts, the common formats) and no more: a `pattern` is not honoured.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 12
# Depth at which optional parts are left out, so that schemas that refer to themselves come to an end.
TERSE_DEPTH = 5

FORMATS = {
    "date": "2024-01-31",
    "date-time": "2024-01-31T09:30:00Z",
    "time": "09:30:00Z",
    "email": "stand-in@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}


def fitting(schema: Mapping[str, Any], text: str, rng: random.Random, *, required_only: bool = False) -> Any:
    """A value that fits `schema`; free strings hold `text`. With `required_only`, objects hold no optional property."""
    return _Filler(schema, text, rng, required_only).value(schema, 0)


class _Filler:
    def __init__(self, root: Mapping[str, Any], text: str, rng: random.Random, required_only: bool) -> None:
        self.root = root
        self.text = text
        self.rng = rng
        self.required_only = required_only

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self.rng.choice(schema["enum"])
        for branches in ("anyOf", "oneOf"):
            if schema.get(branches):
                return self.value(self._branch(schema[branches], depth), depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        match self._type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer":
                return int(self._number(schema, 1))
            case "number":
                return self._number(schema, 0.5)
            case "boolean":
                return self.rng.random() < 0.5
            case "null":
                return None
            case _:
                return self._string(schema)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """`$ref` followed and `allOf` merged into one schema."""
        for _ in range(MAX_DEPTH):
            if not isinstance(schema.get("$ref"), str):
                break
            schema = self._target(schema["$ref"])
        merged = dict(schema)
        for part in merged.pop("allOf", ()):
            for key, found in self._resolved(part).items():
                both = isinstance(found, dict) and isinstance(merged.get(key), dict)
                merged[key] = {**merged[key], **found} if both else found
        return merged

    def _target(self, reference: str) -> Mapping[str, Any]:
        found: Any = self.root
        for step in reference.lstrip("#").strip("/").split("/"):
            if step:
                found = found.get(step, {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def _branch(self, branches: list[Any], depth: int) -> Any:
        """Deep down a branch that ends the recursion, if there is one."""
        if depth < TERSE_DEPTH:
            return branches[0]
        return min(branches, key=lambda branch: not {"$ref", "properties"}.isdisjoint(branch))

    def _type(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if isinstance(kind, str):
            return kind
        return "object" if "properties" in schema else "array" if "items" in schema else "string"

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        names = list(properties) if not self.required_only and depth < TERSE_DEPTH else required
        wanted = [*names, *(name for name in required if name not in names)]
        return {name: self.value(properties.get(name, {}), depth + 1) for name in wanted}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        fewest = int(schema.get("minItems") or 0)
        count = max(fewest, 0 if depth >= TERSE_DEPTH else 1)
        return [self.value(schema.get("items") or {}, depth + 1) for _ in range(count)]

    def _number(self, schema: Mapping[str, Any], step: float) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if low is None:
            low = high - 10 * step if high is not None else 0
        if high is None:
            high = low + 10 * step
        above = low + step if "exclusiveMinimum" in schema else low
        value = above + step * self.rng.randint(0, 9)
        if value > high or (value == high and "exclusiveMaximum" in schema):
            value = above if above < high or "exclusiveMaximum" not in schema else (low + high) / 2
        multiple = schema.get("multipleOf")
        return float(-(-value // multiple) * multiple if multiple else value)

    def _string(self, schema: Mapping[str, Any]) -> str:
        text = FORMATS.get(str(schema.get("format")), self.text)
        longest = schema.get("maxLength")
        shortest = int(schema.get("minLength") or 0)
        return text[:longest].ljust(shortest, ".")

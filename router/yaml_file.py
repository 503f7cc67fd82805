"""YAML files as the configuration and the price list are read: strictly, with errors that say where."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

# The C parser, where PyYAML was built with it, reads a file ten times as fast.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnreadableFile(ValueError):
    """The file is missing or no YAML; the message says why, without the file's name."""


def read_yaml(path: Path) -> Any:
    """What the file holds. Raises UnreadableFile."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: bytes that are no UTF-8, or an unquoted date that no calendar has, such as 2024-02-30.
        raise UnreadableFile(f"is not YAML: {' '.join(str(error).split())}") from error


def problems(error: ValidationError, hint: str = "") -> Iterator[str]:
    """One line a problem: the key, what is wrong, what was found. `hint` follows an unknown key."""
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        yield f"{key}: {_sentence(problem, hint)}"


def _sentence(problem: Any, hint: str) -> str:
    if problem["type"] == "extra_forbidden":
        return f"is not a known key{hint}"
    if problem["type"] == "missing":
        return "is missing"
    message, found = problem["msg"].removeprefix("Value error, "), problem["input"]
    if problem["type"] == "value_error" and (isinstance(found, (dict, list)) or repr(found) in message):
        return str(message)  # one of ours, which says itself what was found
    return f"{message}; found {_found(found)}"


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return repr(value)


class _UniqueKeyLoader(_SafeLoader):
    """YAML lets a later key overwrite an earlier one in silence; money must not depend on that."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # no key at all, as the loader itself will say
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

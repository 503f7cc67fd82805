"""Documentation as contract: a setting, an error code or a command without its line fails the build."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from router.cli.app import app
from router.config import Config
from router.errors import ParsimonyError

ROOT = Path(__file__).resolve().parents[2]
KEY_LINE = re.compile(r"^(?P<indent> *)(?:# ?)?(?P<more> *)(?P<dash>- )?(?P<key>[A-Za-z0-9][\w./-]*):(?: |$)")
Path_ = tuple[str, ...]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sections_of(annotation: object) -> Iterator[tuple[Path_, type[BaseModel]]]:
    """The models inside an annotation, each with the path below its key: `*` stands for a mapping's names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield (), annotation
        return
    step: Path_ = ("*",) if typing.get_origin(annotation) is dict else ()
    for argument in typing.get_args(annotation):
        for path, section in sections_of(argument):
            yield (*step, *path), section


def config_keys(model: type[BaseModel], prefix: Path_ = ()) -> Iterator[Path_]:
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        for path, section in sections_of(field.annotation):
            yield from config_keys(section, (*prefix, name, *path))


def annotated_keys(text: str) -> set[Path_]:
    """Every key of a YAML text by its path, those in commented lines too (`# key: value`)."""
    found: set[Path_] = set()
    open_keys: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = KEY_LINE.match(line)
        if not match:
            continue
        indent = len(match["indent"] + match["more"] + (match["dash"] or ""))
        open_keys = [(column, key) for column, key in open_keys if column < indent]
        open_keys.append((indent, match["key"]))
        found.add(tuple(key for _, key in open_keys))
    return found


def is_annotated(wanted: Path_, found: set[Path_]) -> bool:
    return any(
        len(path) == len(wanted) and all(name in ("*", key) for name, key in zip(wanted, path, strict=True))
        for path in found
    )


def error_classes(base: type[ParsimonyError] = ParsimonyError) -> Iterator[type[ParsimonyError]]:
    yield base
    for child in base.__subclasses__():
        yield from error_classes(child)


def commands(command: Any, name: str) -> Iterator[str]:
    """The names of all commands below `command`, groups themselves left out."""
    if not hasattr(command, "list_commands"):
        yield name
        return
    for child_name in command.list_commands(None):  # whose commands load when they are asked for
        yield from commands(command.get_command(None, child_name), f"{name} {child_name}")


def test_annotated_keys_are_found_in_comments_and_lists() -> None:
    text = "a:\n  b: 1\n  # c: 2\n# d:\n#   e: 3\nf:\n  - g: 4\n    # h: 5\n# Some words that are no key\ni:\n"
    expected = {("a",), ("a", "b"), ("a", "c"), ("d",), ("d", "e"), ("f",), ("f", "g"), ("f", "h"), ("i",)}
    assert annotated_keys(text) == expected


def test_every_configuration_key_is_annotated() -> None:
    found = annotated_keys(read("configs/parsimony.yaml"))
    missing = [".".join(path) for path in config_keys(Config) if not is_annotated(path, found)]
    assert missing == []


def test_every_error_code_is_in_the_readme() -> None:
    codes = {error.code for error in error_classes() if error.code}
    assert sorted(code for code in codes if f"`{code}`" not in read("README.md")) == []


def test_every_command_is_in_the_readme() -> None:
    names = list(commands(typer.main.get_command(app), "parsimony"))
    readme = read("README.md")
    assert names
    assert [name for name in names if not re.search(rf"{name}\b", readme)] == []


@pytest.mark.parametrize("page", ["README.md", "deploy/README.md"])
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", read(page))) - targets == set()


def test_the_readme_names_the_main_targets() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)", read("README.md")))
    assert {"demo", "serve", "test", "check", "bench"} - named == set()

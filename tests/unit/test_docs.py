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

from policies.routing import REASONS
from router.cli.app import app
from router.config import Config
from router.errors import ParsimonyError, UpstreamRejected

ROOT = Path(__file__).resolve().parents[2]
KEY_LINE = re.compile(r"^(?P<indent> *)(?:# ?)?(?P<more> *)(?P<dash>- )?(?P<key>[A-Za-z0-9][\w./-]*):(?: |$)")
FENCED = re.compile(r"^```(\w*)$(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
READMES = ("README.md", "README.zh-CN.md")
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


def headings(text: str) -> list[int]:
    """The depth of each heading, in order; lines inside fenced blocks are no headings."""
    outside = "".join(FENCED.split(text)[::3])
    return [len(marks) for marks in re.findall(r"^(#+) ", outside, flags=re.MULTILINE)]


def examples(text: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block, without comments: those are translated."""
    return [(language, re.sub(r" *#.*", "", body)) for language, body in FENCED.findall(text)]


def code_spans(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", "".join(FENCED.split(text)[::3])))


def test_headings_and_examples_are_told_apart() -> None:
    text = "# A\n```sh\n# no heading\nrun it   # now\n```\n## B\n### C `code`\n"
    assert headings(text) == [1, 2, 3]
    assert examples(text) == [("sh", "\n\nrun it\n")]
    assert code_spans(text) == {"code"}


@pytest.mark.parametrize("page", READMES)
def test_every_error_code_is_in_the_readme(page: str) -> None:
    errors = [error for error in error_classes() if error.code]
    rows = [line for line in read(page).splitlines() if line.startswith("|")]
    missing = [error.code for error in errors if not any(f"| `{error.code}` |" in row for row in rows)]
    assert missing == []
    # The status of a rejection relayed from a provider is the provider's own.
    stated = [error for error in errors if not issubclass(error, UpstreamRejected)]
    assert [e.code for e in stated if not any(r.startswith(f"| {e.status} | `{e.code}` |") for r in rows)] == []


@pytest.mark.parametrize("page", READMES)
def test_every_command_is_in_the_readme(page: str) -> None:
    names = list(commands(typer.main.get_command(app), "parsimony"))
    readme = read(page)
    assert names
    assert [name for name in names if not re.search(rf"{name}\b", readme)] == []


@pytest.mark.parametrize("page", READMES)
def test_every_reason_is_in_the_readme(page: str) -> None:
    assert [reason for reason in REASONS if f"`{reason}`" not in read(page)] == []


@pytest.mark.parametrize("page", READMES)
def test_every_section_of_the_configuration_is_in_the_readme(page: str) -> None:
    assert [name for name in Config.model_fields if f"`{name}`" not in read(page)] == []


@pytest.mark.parametrize("page", [*READMES, "deploy/README.md"])
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", read(page))) - targets == set()


@pytest.mark.parametrize("page", READMES)
def test_the_readme_names_the_main_targets(page: str) -> None:
    named = set(re.findall(r"\bmake ([a-z]+)", read(page)))
    assert {"demo", "serve", "test", "check", "bench", "train"} - named == set()


@pytest.mark.parametrize("page", [*READMES, "CHANGELOG.md"])
def test_every_file_that_a_page_links_to_exists(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", read(page)) if "://" not in link]
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_chinese_readme_has_the_headings_of_the_english_one() -> None:
    assert headings(read("README.zh-CN.md")) == headings(read("README.md"))


def test_the_chinese_readme_has_the_examples_of_the_english_one() -> None:
    assert examples(read("README.zh-CN.md")) == examples(read("README.md"))


def test_the_chinese_readme_names_what_the_english_one_names() -> None:
    english, chinese = (code_spans(read(page)) for page in READMES)
    assert chinese ^ english == set()

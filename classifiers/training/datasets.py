"""Routing examples from JSON lines: what a weak and a strong model made of the same prompt."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from classifiers.base import Message, Prompt

GZIP_MAGIC = b"\x1f\x8b"
REQUIRED = ("prompt", "weak_model", "strong_model", "weak_score", "strong_score")
REQUEST = ("messages", "tools", "response_format", "application")
"""What a request was beside the prompt; kept in an example's `extra`."""
OPTIONAL = ("dataset", "id", "subset", "lang", "extra", *REQUEST)
_SHOWN_CHARACTERS = 60
_STEM_CHARACTERS = 12

Pair = tuple[str, str]
"""The weak model's name and the strong one's."""


class DatasetError(ValueError):
    """A file that cannot be used; says where, what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and how well two models answered it, both scores in [0, 1].

    Split on `stem`, never on examples: prompts of one stem ask the same. `extra` is whatever else the line said.
    """

    dataset: str
    id: str
    subset: str
    lang: str
    prompt: str
    weak_model: str
    strong_model: str
    weak_score: float
    strong_score: float
    stem: str
    contaminated: bool
    extra: Mapping[str, Any]

    @property
    def pair(self) -> Pair:
        return self.weak_model, self.strong_model


def read(
    path: Path | str, *, weak_model: str | None = None, strong_model: str | None = None, lang: str | None = None
) -> list[Example]:
    """The examples of a JSON-lines file, plain or gzip, in its order; a prompt returns once for each pair chosen.

    A line needs the keys in `REQUIRED`. Of the rest, `dataset` is the file's name unless said, `id` the line's number,
    and `extra.stem` a hash of the prompt. Raises DatasetError, also when the choice leaves nothing.
    """
    path = Path(path)
    examples = list(_examples(path))
    if not examples:
        raise DatasetError(f"{path}: found no line; needed is one JSON object a line with {', '.join(REQUIRED)}")
    for key, wanted in (("weak_model", weak_model), ("strong_model", strong_model), ("lang", lang)):
        if wanted is not None:
            examples = _only(path, examples, key, wanted)
    return examples


def as_prompt(text: str) -> Prompt:
    """A text as a request of one user message."""
    return Prompt((Message("user", text),))


def by_pair(examples: Iterable[Example]) -> dict[Pair, list[Example]]:
    """The examples of each pair of models, pairs in the order in which they first occur."""
    groups: dict[Pair, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.pair, []).append(example)
    return groups


def without_contaminated(examples: Sequence[Example]) -> list[Example]:
    """The examples that RouteLLM keeps: those not marked as near-copies of its training data."""
    return [example for example in examples if not example.contaminated]


def _only(path: Path, examples: list[Example], key: str, wanted: str) -> list[Example]:
    chosen = [example for example in examples if getattr(example, key) == wanted]
    if not chosen:
        counts = Counter(getattr(example, key) for example in examples)
        present = ", ".join(f"{name or 'none'} ({count:,})" for name, count in counts.most_common())
        raise DatasetError(f"{path}: {key} {wanted!r} is not among what is left to choose from; present: {present}")
    return chosen


def _examples(path: Path) -> Iterator[Example]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield _example(line, f"{path}:{number}", path, number)


def _lines(path: Path) -> Iterator[str]:
    """The file's lines, split at line feeds only; a JSON string may hold other separators."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: found a byte that is no UTF-8 at {error.start}; needed is UTF-8 text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path}: found a damaged gzip file ({error})") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from None
    return iter(text.split("\n"))


def _example(line: str, where: str, path: Path, number: int) -> Example:
    row = _row(line, where)
    extra = row.get("extra") or {}
    if not isinstance(extra, dict):
        raise DatasetError(f"{where}: extra is {_shown(extra)}; allowed is a JSON object")
    prompt = _text(row, "prompt", where)
    return Example(
        dataset=_name(row, "dataset", where, path.name.split(".")[0]),
        id=_name(row, "id", where, str(number)),
        subset=_name(row, "subset", where, ""),
        lang=_name(row, "lang", where, ""),
        prompt=prompt,
        weak_model=_text(row, "weak_model", where),
        strong_model=_text(row, "strong_model", where),
        weak_score=_score(row, "weak_score", where),
        strong_score=_score(row, "strong_score", where),
        stem=str(extra.get("stem") or _stem(prompt)),
        contaminated=bool(extra.get("contaminated", False)),
        extra={key: row[key] for key in REQUEST if key in row} | extra,
    )


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: found no JSON ({error}); needed is one JSON object a line") from None
    if not isinstance(row, dict):
        raise DatasetError(f"{where}: found {_shown(row)}; needed is a JSON object with {', '.join(REQUIRED)}")
    missing = [key for key in REQUIRED if key not in row]
    if missing:
        raise DatasetError(
            f"{where}: {', '.join(missing)} missing; found {', '.join(row) or 'no key'}; "
            f"required: {', '.join(REQUIRED)}; optional: {', '.join(OPTIONAL)}"
        )
    return row


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise DatasetError(f"{where}: {key} is {_shown(value)}; allowed is a string")
    return value


def _name(row: dict[str, Any], key: str, where: str, default: str) -> str:
    value = row.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DatasetError(f"{where}: {key} is {_shown(value)}; allowed is a string")
    return str(value)


def _score(row: dict[str, Any], key: str, where: str) -> float:
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DatasetError(f"{where}: {key} is {_shown(value)}; allowed is a number in [0, 1]")
    return float(value)


def _stem(prompt: str) -> str:
    return sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:_STEM_CHARACTERS]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"

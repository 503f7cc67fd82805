"""What is known of one answered request: how far the small model's answer fell short, and of which task it was.

Evidence comes as JSON lines, one request each, in one of three forms:

- as it was recorded when the request was judged: `fingerprint`, `score` and, where the classifier names it, `task`;
- with the request itself: `messages` (or `prompt`, a text), from which the classifier works them out anew;
- as routing data: `prompt`, `weak_model`, `weak_score`, `strong_score`.

The first two say `small_model` and `outcome`. Everything else is optional and has the defaults of `Evidence`.
"""

from __future__ import annotations

import gzip
import heapq
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from classifiers.base import Classification, Classifier, Message, Prompt, ResponseFormat
from classifiers.fingerprint import fingerprint
from classifiers.forest import Floats, Measuring

Source = Literal["judge", "feedback", "evaluation"]
"""A model that compared both answers; a person who used the small one's; a benchmark that scored both."""
SOURCES: tuple[Source, ...] = get_args(Source)

EVIDENCE_LIMIT = 200_000
"""More is not used; the oldest is left out first."""

LARGEST_WEIGHT = 1_000.0
LONGEST_NAME = 300
_GZIP_MAGIC = b"\x1f\x8b"
_SHOWN_CHARACTERS = 60
_NOT_WRITTEN = ("excerpt", "measured", "prior_score")
_RECORDED = ("fingerprint", "score")
_COMMON = ("small_model", "outcome")
_ROUTING = ("prompt", "weak_model", "weak_score", "strong_score")


class EvidenceError(ValueError):
    """A file or a line that cannot be used; says where, what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One judged request.

    `outcome` in [0, 1] says how far the small model's answer fell short: 0 not at all, 1 wholly; a fraction is a
    judge's probability, or a partial shortfall. `surplus` in [0, 1] says how far it was better, 0 where nobody
    compared that. `score` is what the classifier named `classifier` (any, if empty) had
    said, before evidence moved it. `weight` is that of one judgement; `time_s` (Unix seconds), when the request was
    answered.
    """

    fingerprint: str
    small_model: str
    score: float
    outcome: float
    task: str | None = None
    weight: float = 1.0
    time_s: float = 0.0
    source: Source = "judge"
    classifier: str = ""
    surplus: float = 0.0
    excerpt: str = ""
    """The beginning of the newest message, for people to recognise a task by; never written."""
    measured: Floats | None = field(default=None, compare=False, repr=False)
    """What the classifier measured of the request, where it was there and the classifier tells; never written."""
    prior_score: float | None = None
    """The `score` before a forest of judged prompts moved it, None where none did; never written."""

    @property
    def gain(self) -> float:
        """The baseline's over the small model, in [-1, 1]."""
        return self.outcome - self.surplus

    def as_json(self) -> str:
        """The line that records it: the first form."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in _NOT_WRITTEN}
        return json.dumps(fields, allow_nan=False)


def read(path: Path | str, classifier: Classifier, now_s: float) -> Iterator[Evidence]:
    """The evidence of a file, plain or gzip; what states no time counts as of `now_s`. Raises EvidenceError."""
    for number, line in enumerate(_lines(Path(path)), start=1):
        if line.strip():
            yield parse(line, f"{path}:{number}", classifier, now_s)


def newest(items: Iterable[Evidence], limit: int = EVIDENCE_LIMIT) -> list[Evidence]:
    """At most `limit` of them, newest first; of equally old ones the first come. Memory is bounded by the limit."""
    return heapq.nlargest(limit, items, key=lambda item: item.time_s)


def write(path: Path, items: Iterable[Evidence]) -> None:
    """Adds a line for each to the file."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(item.as_json() + "\n" for item in items)


def parse(line: str, where: str, classifier: Classifier, now_s: float) -> Evidence:
    """One line. Raises EvidenceError that begins with `where`."""
    row = _row(line, where)
    try:
        return _evidence(row, classifier, now_s)
    except EvidenceError as error:
        raise EvidenceError(f"{where}: {error}") from None


def shortfall(weak_score: float, strong_score: float) -> float:
    """How far the first falls short of the second, both in [0, 1]; an answer that is better falls short by nothing."""
    return max(0.0, strong_score - weak_score)


def _evidence(row: dict[str, Any], classifier: Classifier, now_s: float) -> Evidence:
    routing = "outcome" not in row and "weak_score" in row
    recorded = "fingerprint" in row
    asked = "messages" in row or "prompt" in row
    if not recorded and not asked:
        raise EvidenceError(f"found {', '.join(row) or 'no key'}; needed is 'fingerprint', 'messages' or 'prompt'")
    _require(row, _ROUTING if routing else (*_RECORDED, *_COMMON) if recorded else _COMMON)
    item = Evidence(
        fingerprint=_name(row, "fingerprint") if recorded else "",
        small_model=_name(row, "weak_model" if routing else "small_model"),
        score=_number(row, "score", 0.0, 1.0, 0.0),
        outcome=_outcome(row) if routing else _number(row, "outcome", 0.0, 1.0),
        task=_name(row, "task", "") or None,
        weight=_number(row, "weight", 0.0, LARGEST_WEIGHT, 1.0),
        time_s=_number(row, "time_s", 0.0, 1e12, now_s),
        source=_source(row, "evaluation" if routing else "judge"),
        classifier=_name(row, "classifier", ""),
        surplus=_surplus(row) if routing else _number(row, "surplus", 0.0, 1.0, 0.0),
    )
    return item if recorded else _classified(item, prompt_of(row), classifier)


def _classified(item: Evidence, prompt: Prompt, classifier: Classifier) -> Evidence:
    """The item with what the classifier says of its request now, whatever it may have said then."""
    judged, measured = _examined(prompt, classifier)
    return replace(
        item,
        fingerprint=judged.fingerprint or fingerprint(prompt),
        score=judged.score,
        task=judged.task,
        classifier=judged.classifier,
        excerpt=" ".join(prompt.messages[-1].text[:_SHOWN_CHARACTERS].split()),
        measured=measured,
    )


def _examined(prompt: Prompt, classifier: Classifier) -> tuple[Classification, Floats | None]:
    return classifier.examine(prompt) if isinstance(classifier, Measuring) else (classifier.classify(prompt), None)


def _outcome(row: dict[str, Any]) -> float:
    return shortfall(_number(row, "weak_score", 0.0, 1.0), _number(row, "strong_score", 0.0, 1.0))


def _surplus(row: dict[str, Any]) -> float:
    return shortfall(_number(row, "strong_score", 0.0, 1.0), _number(row, "weak_score", 0.0, 1.0))


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """The request that a line holds: its `messages`, else its `prompt`. EvidenceError says which key is wrong."""
    tools = row.get("tools") or []
    if not isinstance(tools, list):
        raise EvidenceError(f"tools is {_shown(tools)}; allowed is an array")
    return Prompt(
        _messages(row), len(tools), _response_format(row.get("response_format")), None, _name(row, "application", "")
    )


def _messages(row: Mapping[str, Any]) -> tuple[Message, ...]:
    if "messages" not in row:
        text = row["prompt"]
        if not isinstance(text, str):
            raise EvidenceError(f"prompt is {_shown(text)}; allowed is a string")
        return (Message("user", text),)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise EvidenceError(f"messages is {_shown(messages)}; allowed is a non-empty array of objects")
    return tuple(Message(str(message.get("role", "user")), _text(message.get("content"))) for message in messages)


def _text(content: Any) -> str:
    """The text of a message's content: a string, or parts of which some are text."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _response_format(value: Any) -> ResponseFormat:
    kind = value.get("type") if isinstance(value, dict) else value
    if kind is None:
        return "text"
    for known in get_args(ResponseFormat):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise EvidenceError(f"response_format is {_shown(value)}; allowed: {', '.join(get_args(ResponseFormat))}")


def _source(row: dict[str, Any], default: Source) -> Source:
    value = row.get("source", default)
    if value not in SOURCES:
        raise EvidenceError(f"source is {_shown(value)}; allowed: {', '.join(SOURCES)}")
    return value  # type: ignore[no-any-return]


def _require(row: dict[str, Any], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in row]
    if missing:
        raise EvidenceError(f"{', '.join(missing)} missing; found {', '.join(row)}; required: {', '.join(names)}")


def _name(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = row.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (not value and default is None) or len(value) > LONGEST_NAME:
        raise EvidenceError(f"{key} is {_shown(value)}; allowed is a string of 1 to {LONGEST_NAME} characters")
    return value


def _number(row: dict[str, Any], key: str, least: float, most: float, default: float | None = None) -> float:
    value = row.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool):
        value = float(value) if key == "outcome" else math.nan  # "it fell short: true" is plain enough
    if not isinstance(value, (int, float)) or not least <= value <= most:
        raise EvidenceError(f"{key} is {_shown(row.get(key))}; allowed is a number in [{least:g}, {most:g}]")
    return float(value)


def _lines(path: Path) -> Iterator[str]:
    """The file's lines, one at a time: it may be larger than memory."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
        with gzip.open(path) if zipped else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _decoded(line, f"{path}:{number}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EvidenceError(f"{path}: found a damaged gzip file ({error})") from None
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read ({error.strerror or error})") from None


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{where}: found a byte that is no UTF-8 at {error.start}; needed is UTF-8") from None


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{where}: found no JSON ({error}); needed is one JSON object a line") from None
    if not isinstance(row, dict):
        raise EvidenceError(f"{where}: found {_shown(row)}; needed is one JSON object a line")
    return row


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"

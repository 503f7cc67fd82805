"""Values of logs, read with suspicion: numbers as text, times of many shapes, JSON inside of JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from policies.money import NUSD_PER_USD, parse_amount, round_half_up
from policies.usage import TokenUsage
from router.replay.rows import MAX_COST_NUSD, MAX_TOKENS, BadRow

Fields = Mapping[str, Any]

_FIRST_ERROR = 400
_NO_TIME = 1e20
"""More than the nanoseconds of any year that can be written."""
_SECONDS_BELOW = 100_000_000_000
"""A Unix time below this is in seconds: as milliseconds it would lie before March 1973."""
_EARLIEST_MS = 1_514_764_800_000
"""2018-01-01, before any such model was sold. What is earlier is a mistake: 20251009 for a day, 0 for not known."""
_FIGURES = re.compile(r"[\d \-+.,:/$€%]*")


def first(fields: Fields, *names: str) -> Any:
    """The first of these fields that holds something: neither null nor an empty text."""
    for name in names:
        value = fields.get(name)
        if value is not None and value != "":
            return value
    return None


def mapping(value: Any) -> dict[str, Any]:
    """An object, also where it is written as JSON inside of a text; else an empty one."""
    if isinstance(value, str):
        value = parsed(value)
    return value if isinstance(value, dict) else {}


def parsed(text: str) -> Any:
    """The value that a text writes as JSON; the text itself where it is no object and no list.

    Helicone's export tool doubles the quotes of an object twice on their way into CSV (`convertToCSVRow`).
    """
    if text[:1] not in ("{", "["):
        return text
    for written in (text, text.replace('""', '"')):
        try:
            return orjson.loads(written)
        except orjson.JSONDecodeError:
            continue
    return text


def text_of(value: Any) -> str:
    """A short text for a name; empty where there is none."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def is_failure(status: Any) -> bool:
    """Of an HTTP status, a number or text; Helicone has numbers below 0 for what was cancelled or came too late."""
    try:
        return not 0 <= int(status) < _FIRST_ERROR
    except (TypeError, ValueError, OverflowError):
        return False


def tokens(value: Any, name: str) -> int | None:
    """A count of tokens; None where there is none. Raises BadRow for what can be none."""
    if value is None or value == "":
        return None
    try:
        # Never an integer unseen: the text "9e9999999" would fill the memory as one.
        number = Decimal(value if isinstance(value, (int, float)) else str(value).strip())
        whole = number.is_infinite() or number == number.to_integral_value()
    except ArithmeticError:
        whole = False
    if isinstance(value, bool) or not whole:
        raise BadRow("implausible tokens", f"{name}: found {_shown(value)}; it must be a whole number")
    if number < 0:
        raise BadRow("negative tokens", f"{name}: found {_shown(value)}; it must not be negative")
    if number > MAX_TOKENS:
        raise BadRow("implausible tokens", f"{name}: found {_shown(value)}; no request has more than {MAX_TOKENS}")
    return int(number)


def usage_of(input_tokens: Any, output_tokens: Any, cached: Any = None, reasoning: Any = None) -> TokenUsage | None:
    """None where neither side was counted, which logs also write as 0 and 0. Raises BadRow.

    An input of which nobody counted the answer is no usage either: an answer is never priced at nothing.
    """
    found = [
        tokens(value, name)
        for value, name in (
            (input_tokens, "input tokens"),
            (output_tokens, "output tokens"),
            (cached, "cached input tokens"),
            (reasoning, "reasoning tokens"),
        )
    ]
    if found[0] is None or found[1] is None or found[0] + found[1] == 0:
        return None
    try:
        return TokenUsage(found[0], found[1], found[2] or 0, found[3] or 0)
    except ValueError as error:
        raise BadRow("contradictory tokens", str(error)) from None


def cost_of(value: Any) -> int | None:
    """Dollars to nano-USD, rounded half up where they are finer; None where there are none. Raises BadRow.

    A float is taken as it is written: its shortest text is what stood in the log.
    """
    if value is None or value == "":
        return None
    text = repr(value) if isinstance(value, float) else str(value).strip().removeprefix("$")
    try:
        nusd = round_half_up(parse_amount(text) * NUSD_PER_USD)
    except ValueError:
        raise BadRow(
            "bad cost", f"cost: found {_shown(value)}; it must be dollars such as 0.0015, not negative"
        ) from None
    if nusd > MAX_COST_NUSD:
        raise BadRow("bad cost", f"cost: found {_shown(value)}; no request costs more than $1,000")
    return nusd


def instant_ms(value: Any) -> int | None:
    """Unix milliseconds of an ISO 8601 time (UTC where it names no zone) or a Unix time; None where there is none.

    Raises BadRow for what is neither.
    """
    if value is None or value == "":
        return None
    number = _number(value)
    try:
        at_ms = _iso_ms(str(value)) if number is None else _unix_ms(number)
    except (ValueError, OverflowError, ArithmeticError):
        raise BadRow("bad time", f"time: found {_shown(value)}; it must be ISO 8601 or a Unix time") from None
    if at_ms < _EARLIEST_MS:
        raise BadRow("bad time", f"time: found {_shown(value)}; as ISO 8601 or a Unix time that is before 2018")
    return at_ms


def _iso_ms(text: str) -> int:
    at = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def _number(value: Any) -> int | float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _unix_ms(number: int | float) -> int:
    """From seconds, milliseconds, microseconds or nanoseconds, by its size."""
    if not 0 <= number < _NO_TIME:
        raise ValueError
    while number >= _SECONDS_BELOW * 1_000:
        number /= 1_000
    return int(number * 1_000 if number < _SECONDS_BELOW else number)


def _shown(value: Any) -> str:
    """A number as it is. Of a text, which in a shifted column may be a prompt's, no more than that it is one, or where
    it has figures alone, in which order: "9,99" of "0,03"."""
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str) and _FIGURES.fullmatch(value[:32]):
        return f"text like {re.sub('[0-9]', '9', value[:32])!r}"
    return "text" if isinstance(value, str) else f"a {type(value).__name__}"

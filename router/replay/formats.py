"""The formats of logs: how a record of each is told from the others, and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from router.replay.fields import Fields
from router.replay.format_gateways import is_helicone, is_litellm, read_helicone, read_litellm
from router.replay.format_openai import is_openai, read_openai
from router.replay.format_plain import is_plain, read_plain
from router.replay.format_platforms import is_azure, is_langfuse, read_azure, read_langfuse
from router.replay.rows import BadRow, LoggedRequest


@dataclass(frozen=True, slots=True)
class Format:
    """`recognises` looks at a record's names; `read` makes a request of it, or raises BadRow or NoCall."""

    name: str
    recognises: Callable[[Fields], bool]
    read: Callable[[Fields], LoggedRequest]


FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        Format("litellm", is_litellm, read_litellm),
        Format("helicone", is_helicone, read_helicone),
        Format("langfuse", is_langfuse, read_langfuse),
        Format("azure", is_azure, read_azure),
        Format("openai", is_openai, read_openai),
        Format("plain", is_plain, read_plain),
    )
}
"""In the order in which they are tried: those with names of their own before those whose names anyone uses."""


def recognise(record: Fields) -> Format | None:
    """The format of a record, by its names; None where it is none of ours."""
    return next((found for found in FORMATS.values() if found.recognises(record)), None)


def read_record(record: Fields, forced: str | None) -> LoggedRequest:
    """One record, of the format that was named or of the one that its names tell. Raises BadRow and NoCall.

    Each record is looked at for itself: logs of several gateways may have been put together.
    """
    found = recognise(record) if forced is None else FORMATS[forced]
    if found is None:
        sentence = (
            f"none of {len(record)} fields tells a known format; name it (--input-format), or what its columns are "
            "called (--column), which the first line of CSV must hold"
        )
        raise BadRow("unknown format", sentence)
    return found.read(record)

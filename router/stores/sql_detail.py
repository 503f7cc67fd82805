"""How the ledger keeps what is long or often the same: ids as bytes, `detail` without its numbers.

Both are formats of stored data: they may be added to, never changed.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_PREFIX = "chatcmpl-"
_PACKED_HEX = 24
_NUMBER = re.compile("([0-9]+)")
_GAP = "\x1a"  # JSON writes it as an escape, so no text has it in it


def pack_id(request_id: str) -> bytes:
    """An id as Parsimony makes them is its random bits behind a zero; any other is itself, and begins with no zero."""
    digits = request_id[len(_PREFIX) :]
    if len(digits) == _PACKED_HEX and request_id.startswith(_PREFIX):
        try:
            bits = bytes.fromhex(digits)
        except ValueError:
            bits = b""
        if bits.hex() == digits:
            return b"\0" + bits
    return request_id.replace("\0", "\ufffd").encode()


def split_detail(detail: dict[str, Any]) -> tuple[str, bytes]:
    """Its JSON text with a gap for each number, which many records share, and the numbers: a digit in four bits, `f`
    between two. Raises orjson.JSONEncodeError."""
    parts = _NUMBER.split(orjson.dumps(detail).decode())
    digits = "f".join(parts[1::2])
    return _GAP.join(parts[::2]), bytes.fromhex(digits + "f" * (len(digits) % 2))


def join_detail(template: str, numbers: bytes) -> dict[str, Any]:
    parts = template.split(_GAP)
    digits = [*numbers.hex().split("f")[: len(parts) - 1], ""]
    return orjson.loads("".join(part + number for part, number in zip(parts, digits, strict=True)))

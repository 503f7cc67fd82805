"""How the ledger keeps what is long or often the same: ids as bytes, `detail` without its numbers.

Both are formats of stored data: they may be added to, never changed.
"""

from __future__ import annotations

from binascii import unhexlify
from typing import Any

import orjson

_PREFIX = "chatcmpl-"
_PACKED_HEX = 24
_DIGITS = b"0123456789"
# JSON writes these as escapes, so no text has them in it.
_GAP = "\x1a"
_SPACE = b"\x1b"
# `bytes.split` parts at each run of white space, in half the time of a pattern. For that, all but digits are made
# into spaces, or digits into line ends and spaces into something else for the while.
_ONLY_DIGITS = bytes(byte if byte in _DIGITS else ord(" ") for byte in range(256))
_NO_DIGITS = bytes.maketrans(_DIGITS + b" ", b"\n" * len(_DIGITS) + _SPACE)
_SPACES_AGAIN = bytes.maketrans(_SPACE, b" ")


def pack_id(request_id: str) -> bytes:
    """An id as Parsimony makes them is its 96 bits behind a zero; any other is itself, and begins with no zero."""
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
    text = orjson.dumps(detail)
    digits = b"f".join(text.translate(_ONLY_DIGITS).split())
    gaps = _GAP.encode().join(text.translate(_NO_DIGITS).split())
    return gaps.translate(_SPACES_AGAIN).decode(), unhexlify(digits + b"f" if len(digits) % 2 else digits)


def join_detail(template: str, numbers: bytes) -> dict[str, Any]:
    parts = template.split(_GAP)
    digits = [*numbers.hex().split("f")[: len(parts) - 1], ""]
    return orjson.loads("".join(part + number for part, number in zip(parts, digits, strict=True)))

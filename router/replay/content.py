"""What a file of a log holds, byte for byte: unpacked, in UTF-8, from a file or from stdin."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import sys
import zlib
from typing import BinaryIO, cast

STDIN = "-"
_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Content:
    """What a file holds: unpacked where it is packed, in UTF-8 where it is UTF-16 (as spreadsheets write it), and up to
    where it is damaged; `damage` says how."""

    def __init__(self, name: str) -> None:
        self._raw: BinaryIO = sys.stdin.buffer if name == STDIN else open(name, "rb")  # noqa: SIM115 - closed below
        # A buffer around a buffer loses Ctrl-C; what stands in for stdin in a program may have none.
        peeks = isinstance(self._raw, io.BufferedReader)
        ahead = cast("io.BufferedReader", self._raw) if peeks else io.BufferedReader(cast("io.RawIOBase", self._raw))
        self._packed = gzip.GzipFile(fileobj=ahead) if ahead.peek(2)[:2] == _GZIP_MAGIC else None
        self._plain = ahead
        self._decoder: codecs.IncrementalDecoder | None = None
        self._rest = b""
        self.size = 0
        self.damage = ""

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: object) -> None:
        if self._raw is not sys.stdin.buffer:
            self._raw.close()

    def read(self, size: int) -> bytes:
        """As many bytes, or all that are left."""
        while len(self._rest) < size and (more := self._more(size)):
            self._rest += more
        found, self._rest = self._rest[:size], self._rest[size:]
        self.size += len(found)
        return found

    def _more(self, size: int) -> bytes:
        begins = not self.size and not self._rest
        while True:
            data = self._unpacked(size)
            if begins and data.startswith(_UTF16_MARKS):
                self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
            if self._decoder is None:
                return data
            text = self._decoder.decode(data, final=not data)
            if text or not data:
                return text.encode()

    def _unpacked(self, size: int) -> bytes:
        if self._packed is None:
            return self._plain.read(size)
        try:
            return self._packed.read1(size)  # what there is, so that damage behind it does not take it along
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.damage = str(error)
            return b""

    def told(self) -> int:
        """How far the file was read, packed as it is."""
        try:
            return os.lseek(self._raw.fileno(), 0, os.SEEK_CUR)
        except (OSError, ValueError):
            return 0

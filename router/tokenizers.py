"""Counting tokens offline: tiktoken's encodings from the litellm wheel, a memo for repeated messages, an estimate.

`TokenCounter` counts texts and whole chat requests; `estimate_tokens` needs no encoding and no memory.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tiktoken
from tiktoken_ext.openai_public import ENCODING_CONSTRUCTORS  # type: ignore[import-untyped]

from router.errors import ConfigError

# name -> (file, its sha256). The file's name is the sha1 of the address that tiktoken would fetch it from,
# which is how tiktoken finds it in TIKTOKEN_CACHE_DIR.
_FILES: Mapping[str, tuple[str, str]] = {
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "p50k_base": (
        "ec7223a39ce59f226a68acc30dc1af2788490e15",
        "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    ),
}
ENCODING_NAMES: tuple[str, ...] = tuple(_FILES)

# Overhead of a chat request. Source: OpenAI Cookbook, "How to count tokens with tiktoken".
TOKENS_PER_MESSAGE = 3
TOKENS_PER_NAME = 1
TOKENS_PER_REPLY = 3

# One image of 1024 x 1024 at high detail (85 + 4 tiles x 170), or at low detail.
# Source: OpenAI, guide to images and vision, costs of gpt-4o.
TOKENS_PER_IMAGE = 765
TOKENS_PER_LOW_DETAIL_IMAGE = 85

# tiktoken's regular expressions overflow their stack between half a million and a million blanks, with a panic
# that is no Exception. Pieces bound that, and the time of one call.
_MAX_PIECE_CHARS = 32_768
_MAX_KEY_CHARS = 1_024

# Hundredths of a token that a wide character makes; cl100k_base is the default.
_WIDE_HUNDREDTHS: Mapping[str | None, int] = {"o200k_base": 85, "p50k_base": 210}

_load_lock = threading.Lock()


class EncodingUnavailable(ConfigError, ValueError):
    """The encoding is unknown, or its file is absent or damaged. It is never fetched."""


def litellm_folder() -> Path | None:
    """Where the litellm package lies, or None. Finding it does not import it, which would take seconds."""
    spec = importlib.util.find_spec("litellm")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def encoding_folder() -> Path:
    """The folder with the encodings' files: TIKTOKEN_CACHE_DIR where set, else the litellm wheel's.

    Raises EncodingUnavailable where there is neither.
    """
    named = os.environ.get("TIKTOKEN_CACHE_DIR")
    if named:
        return Path(named)
    litellm = litellm_folder()
    if litellm is None:
        raise EncodingUnavailable("litellm, whose wheel carries the tokenizer files, is not installed")
    return litellm / "litellm_core_utils" / "tokenizers"


@functools.cache
def load_encoding(name: str) -> tiktoken.Encoding:
    """The encoding, read from disk at its first use in the process and kept.

    Takes 0.1 to 0.4 s and 15 to 48 MB. Raises EncodingUnavailable; never touches the network.
    """
    verify_encoding(name)
    folder = encoding_folder()
    with _load_lock:
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        try:
            encoding = tiktoken.Encoding(**ENCODING_CONSTRUCTORS[name]())
        finally:
            if before is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = before
    # Counting needs the compiled tables only; the dictionary they were made from would hold 6 to 29 MB more.
    encoding._mergeable_ranks = {}
    return encoding


def verify_encoding(name: str) -> None:
    """Reads the file of an encoding, in milliseconds. Raises EncodingUnavailable.

    tiktoken fetches what it does not find and deletes what it finds damaged: neither may happen.
    """
    if name not in _FILES:
        raise EncodingUnavailable(f"{name!r} is not an available encoding; there are {', '.join(ENCODING_NAMES)}")
    path = encoding_folder() / _FILES[name][0]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EncodingUnavailable(f"the file of {name} cannot be read: {path}: {error.strerror}") from error
    if digest != _FILES[name][1]:
        raise EncodingUnavailable(f"the file of {name} is damaged: {path} has sha256 {digest}, not {_FILES[name][1]}")


def encoding_for_model(model: str) -> str | None:
    """The available encoding of an OpenAI model by its name, a provider's prefix ("azure/") aside; else None."""
    try:
        name = tiktoken.encoding_name_for_model(model.rpartition("/")[2])
    except KeyError:
        return None
    return name if name in _FILES else None


def estimate_tokens(text: str, encoding_name: str | None = None) -> int:
    """About as many tokens as `encoding_name` (cl100k_base by default) makes of `text`, without looking at its words.

    The weights of letters, blanks and wide characters (each CJK character is one) were fitted to English
    answers and Chinese questions, nine in ten of which it gets within -20 % and +25 %. It runs low on code
    and formulae.
    """
    length = len(text)
    # A CJK character has three bytes, two more than it has characters: wide ones come out doubled.
    wide_twice = 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - length
    weight = _WIDE_HUNDREDTHS.get(encoding_name, 125)
    return -(-(19 * (2 * length - wide_twice) + 40 * text.count(" ") + weight * wide_twice) // 200)


class TokenCounter:
    """Counts with one encoding, loaded at the first count, or estimates where `encoding_name` is None.

    Remembers counts of texts, for a conversation repeats its history: at most `max_entries`, and
    `max_bytes` of keys; a long text is remembered by its hash. Safe to share between threads.
    """

    def __init__(self, encoding_name: str | None, *, max_entries: int = 8_192, max_bytes: int = 4_194_304) -> None:
        if encoding_name is not None and encoding_name not in _FILES:
            raise EncodingUnavailable(
                f"{encoding_name!r} is not an available encoding; there are {', '.join(ENCODING_NAMES)}"
            )
        self.encoding_name = encoding_name
        self._memo = _Memo(max_entries, max_bytes)

    def count_text(self, text: str) -> int:
        """Tokens in `text`, in which special tokens such as "<|endoftext|>" are plain text. Never raises for a str."""
        if self.encoding_name is None:
            return estimate_tokens(text)
        key = text if len(text) <= _MAX_KEY_CHARS else _digest(text)
        count = self._memo.get(key)
        if count is None:
            count = _encoded_length(load_encoding(self.encoding_name), text)
            self._memo.put(key, count)
        return count

    def count_messages(
        self, messages: Sequence[Any], tools: Sequence[Any] | None = None, *, image_tokens: int | None = None
    ) -> int:
        """Input tokens of a chat request in OpenAI's wire form, `tools` as their compact JSON.

        What the wire would refuse (a message that is no object, say) counts as nothing. Images count
        as `image_tokens` or, without, as usual ones do on gpt-4o; other media as nothing.
        """
        total = TOKENS_PER_REPLY + sum([self._count_message(message, image_tokens) for message in messages])
        return total + self.count_text(_compact_json(tools)) if tools else total

    def _count_message(self, message: Any, image_tokens: int | None) -> int:
        if not isinstance(message, dict):
            return 0
        total = TOKENS_PER_MESSAGE
        role, content, name = message.get("role"), message.get("content"), message.get("name")
        if isinstance(role, str):
            total += self.count_text(role)
        if isinstance(content, str):
            total += self.count_text(content)
        elif isinstance(content, list):
            total += sum([self._count_part(part, image_tokens) for part in content])
        if isinstance(name, str):
            total += TOKENS_PER_NAME + self.count_text(name)
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            total += sum(map(self._count_call, calls))
        return total

    def _count_part(self, part: Any, image_tokens: int | None) -> int:
        if not isinstance(part, dict):
            return 0
        image = part.get("image_url")
        if image is not None:
            if image_tokens is not None:
                return image_tokens
            low = isinstance(image, dict) and image.get("detail") == "low"
            return TOKENS_PER_LOW_DETAIL_IMAGE if low else TOKENS_PER_IMAGE
        text = part.get("text") or part.get("refusal")
        return self.count_text(text) if isinstance(text, str) else 0

    def _count_call(self, call: Any) -> int:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            return 0
        texts = (function.get("name"), function.get("arguments"))
        return TOKENS_PER_MESSAGE + sum(self.count_text(text) for text in texts if isinstance(text, str))


class _Memo:
    """Counts by key in two generations: when the young one is half of the limit it becomes the old, whose
    unused entries go. Nearly least-recently-used, and a hit is one look-up in a plain dictionary.

    Without a lock: threads that collide lose a count, never get a wrong one.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max(max_entries // 2, 1)
        self._max_bytes = max_bytes // 2
        self._young: dict[str | bytes, int] = {}
        self._old: dict[str | bytes, int] = {}
        self._young_bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: str | bytes) -> int | None:
        count = self._young.get(key)
        if count is None:
            count = self._old.get(key)
            if count is not None:
                self.put(key, count)
        return count

    def put(self, key: str | bytes, count: int) -> None:
        size = _key_bytes(key)
        if len(self._young) >= self._max_entries or self._young_bytes + size > self._max_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        if size <= self._max_bytes:
            self._young[key] = count
            self._young_bytes += size


def _key_bytes(key: str | bytes) -> int:
    """What a key holds, without the dictionary's own cost; a wide character makes Python store all with four bytes."""
    return 4 * len(key) if isinstance(key, str) and not key.isascii() else len(key)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _compact_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    except RecursionError:
        return ""  # nested deeper than any schema; the provider is going to refuse it


def _encoded_length(encoding: tiktoken.Encoding, text: str) -> int:
    if len(text) <= _MAX_PIECE_CHARS:
        return len(encoding.encode_ordinary(text))
    return sum(len(encoding.encode_ordinary(piece)) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Cuts a long text before a blank, where a token begins anyhow, or anywhere if there is none to be had."""
    start = 0
    while len(text) - start > _MAX_PIECE_CHARS:
        end = start + _MAX_PIECE_CHARS
        blank = text.rfind(" ", start + 1, end)
        cut = blank if blank > start + _MAX_PIECE_CHARS // 2 else end
        yield text[start:cut]
        start = cut
    yield text[start:]

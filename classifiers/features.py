"""A prompt as named numbers: what the rules and the trained model look at.

The text read is bounded (see the windows below), so the time is bounded for any input; no text makes it raise.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from classifiers.base import Message, Prompt
from classifiers.vocabulary import (
    CODE,
    COURTESY_CHINESE,
    COURTESY_WORDS,
    EXPLANATION,
    KIND_OF_MARK,
    KINDS,
    MARK_OF_PAIR,
    MARK_OF_WORD,
    MATHEMATICS,
    QUANTITY,
    ROUTINE_CHINESE,
    ROUTINE_WORDS,
    pairs_of,
)

# What is read, in characters: instructions stand at the head or the tail of a long message, its middle is material.
# Of the talk before, the opening message (it usually sets the task) and the last few.
NEWEST_HEAD, NEWEST_TAIL = 2000, 1000
SYSTEM_HEAD, SYSTEM_TAIL = 300, 100
EARLIER_HEAD, EARLIER_TAIL = 250, 100
EARLIER_MESSAGES = 4
COUNTED_MESSAGES = 64
# So far back the newest user message is looked for: an agent's calls and their results may follow it.
SEARCHED_MESSAGES = 512

# How much of what stands elsewhere counts: in a hard session "yes, do it" or 继续 is the hard task going on, while
# "translate that" or "thanks" opens a small one of its own. Not by the newest message's length: padding it would pay.
CARRY_EARLIER, CARRY_TO_ROUTINE, CARRY_SYSTEM = 0.8, 0.3, 0.2

_SYSTEM_ROLES = ("system", "developer")
_LARGEST_NUMBER = 1_000_000
_INSTRUCTION_CHARACTERS = 80
_CHINESE_INSTRUCTION_CHARACTERS = 40
_COURTESY_UNITS = 6.0
# A Chinese character is three UTF-8 bytes and about 0.6 of a word, as Chinese words average 1.6 characters.
UNITS_PER_EXTRA_BYTE = 0.3
_REMEMBERED_EXCERPTS = 512
_HOW_MANY = re.compile(rb"\bhow +(?:many|much)\b")
_CODE_CHARACTERS = b"{}();=<>`_"
_CODE_MARKS = (b"();", b"):", b") {", b"==", b"->", b"=>", b"</", b"\n    ")
# The first bytes of the block Mathematical Operators (U+2200 to U+227F).
OPERATOR_LEADS = (b"\xe2\x88", b"\xe2\x89")
# The UTF-8 lead bytes of U+4000 to U+9FFF; they occur nowhere else, so typographic quotes do not look like Chinese.
_HAN_LEAD_BYTES = b"\xe4\xe5\xe6\xe7\xe8\xe9"
_KIND_MARKS = tuple(kind + 1 for kind in KINDS)
_mark_of_word = MARK_OF_WORD.get
_mark_of_pair = MARK_OF_PAIR.get


def _fold(byte: int) -> int:
    if byte < 128 and chr(byte).isalpha():
        return ord(chr(byte).lower())
    if 48 <= byte <= 57:
        return ord("0")
    return byte if byte == ord("\n") else ord(" ")


# Letters to lower case, digits to "0", lines kept, the rest (also each byte of a non-ASCII character) to a space.
_FOLD = bytes(map(_fold, range(256)))


class TextCounts(NamedTuple):
    """What one stretch of text holds, in the order of `vocabulary.KINDS`; further lines lower none of them."""

    units: float = 0.0
    code: float = 0.0
    mathematics: float = 0.0
    quantities: float = 0.0
    constraints: float = 0.0
    steps: float = 0.0
    reasoning: float = 0.0
    proof: float = 0.0
    explanation: float = 0.0
    writing: float = 0.0
    format: float = 0.0


class Features(NamedTuple):
    """One prompt in numbers. A named tuple, since on the hot path a frozen dataclass takes several times longer.

    `characters` is the whole length of the newest message. `units` (words, or what carries as much in Chinese) and
    the counts after it add up newest, earlier and system text, the latter two weighted by `CARRY_*`. `routine`, in
    [0, 1], says how much the newest message opens or closes as a mechanical task (translate, extract, define) or a
    courtesy; evidence of reasoning, explanation, code or mathematics makes it fade.
    """

    characters: float = 0.0
    units: float = 0.0
    code: float = 0.0
    mathematics: float = 0.0
    quantities: float = 0.0
    constraints: float = 0.0
    steps: float = 0.0
    reasoning: float = 0.0
    proof: float = 0.0
    explanation: float = 0.0
    writing: float = 0.0
    format: float = 0.0
    routine: float = 0.0
    tools: float = 0.0
    structured_output: float = 0.0
    images: float = 0.0
    earlier_messages: float = 0.0
    max_output_tokens: float = 0.0


class Text(NamedTuple):
    """One stretch of text, taken apart once for all who count in it; `pairs` is empty where it has no Chinese.

    `marks` has a byte for each word or pair that the vocabulary knows, in no order.
    """

    raw: bytes
    folded: bytes
    words: list[bytes]
    pairs: list[int]
    marks: bytes
    extra_bytes: int


class Conversation(NamedTuple):
    """A prompt's texts: the newest user message whole and its window taken apart, then excerpts of the others."""

    newest: str
    window: str
    text: Text
    system: str
    earlier: tuple[str, ...]


def extract(prompt: Prompt) -> Features:
    """The features of a prompt; of an empty one, zeros."""
    return extract_from(prompt, listen(prompt.messages))


def listen(messages: tuple[Message, ...]) -> Conversation:
    """What will be read of a conversation."""
    newest, system, earlier = parts(messages)
    visible = window(newest, NEWEST_HEAD, NEWEST_TAIL)
    return Conversation(newest, visible, take_apart(visible), system, earlier)


def extract_from(prompt: Prompt, heard: Conversation) -> Features:
    """The features of a prompt whose texts are at hand."""
    messages = prompt.messages
    own = count(heard.text)
    routine = _routine(heard.window, own)
    system, earlier = heard.system, heard.earlier
    counts = _with_context(own, routine, system, earlier) if system or earlier else own
    return Features(
        float(len(heard.newest)),
        *counts,
        routine,
        float(min(prompt.tool_count, _LARGEST_NUMBER)),
        0.0 if prompt.response_format == "text" else 1.0,
        float(min(sum([message.image_count for message in messages[-COUNTED_MESSAGES:]]), _LARGEST_NUMBER)),
        float(max(0, len(messages) - 1 - bool(system))),
        float(min(prompt.max_output_tokens or 0, _LARGEST_NUMBER)),
    )


def take_apart(text: str) -> Text:
    """Folded words (letters lower, digits to 0) and, where there is Chinese, the pairs of neighbouring characters."""
    raw = text.encode("utf-8", "surrogatepass")
    folded = raw.translate(_FOLD)
    extra_bytes = len(raw) - len(text)
    chinese = extra_bytes and len(raw) != len(raw.translate(None, _HAN_LEAD_BYTES))
    words = folded.split()
    pairs = pairs_of("\n" + text) if chinese else []
    # Looked up and filtered without a loop in Python: that is most of the time of a classification.
    marks = bytes(filter(None, map(_mark_of_word, words)))
    if pairs:
        marks += bytes(filter(None, map(_mark_of_pair, pairs)))
    return Text(raw, folded, words, pairs, marks, extra_bytes)


def measure(text: str) -> TextCounts:
    """Count what a text holds."""
    return count(take_apart(text))


def count(text: Text) -> TextCounts:
    """Count what a text holds that is taken apart already."""
    raw, folded, words, _, marks, extra_bytes = text
    tally: list[float] = [*map(marks.translate(KIND_OF_MARK).count, _KIND_MARKS)]
    tally[CODE] += _code_marks(raw)
    tally[MATHEMATICS] += _mathematical_marks(raw)
    if b"how m" in folded:  # the word that asks for an explanation asks for a number here
        how_many = len(_HOW_MANY.findall(folded))
        tally[EXPLANATION] -= how_many
        tally[QUANTITY] += how_many
    return TextCounts(len(words) + extra_bytes * UNITS_PER_EXTRA_BYTE, *tally)


_measure_remembered = lru_cache(maxsize=_REMEMBERED_EXCERPTS)(measure)


def _code_marks(raw: bytes) -> float:
    """Punctuation that stands in source text and stack traces, hardly in prose; a fence counts for three."""
    if len(raw) - len(raw.translate(None, _CODE_CHARACTERS)) < 2:
        return 0.0
    return 3.0 * raw.count(b"```") + sum([raw.count(mark) for mark in _CODE_MARKS])


def _mathematical_marks(raw: bytes) -> float:
    """LaTeX commands, powers and operators such as ∑ and ≤, at half a word each."""
    marks = raw.count(b"\\") + raw.count(b"^")
    if b"\xe2" in raw:
        marks += sum([raw.count(lead) for lead in OPERATOR_LEADS])
    return 0.5 * marks


def _routine(text: str, own: TextCounts) -> float:
    if not _opens_or_closes_routinely(text, own.units):
        return 0.0
    return 1.0 / (1.0 + own.reasoning + own.proof + 0.5 * (own.code + own.mathematics + own.explanation))


def _opens_or_closes_routinely(text: str, units: float) -> bool:
    ends = text if len(text) <= 2 * _INSTRUCTION_CHARACTERS else window(text, *(_INSTRUCTION_CHARACTERS,) * 2)
    words = ends.encode("utf-8", "surrogatepass").translate(_FOLD).split()
    short = units <= _COURTESY_UNITS
    if not ROUTINE_WORDS.isdisjoint(words) or (short and not COURTESY_WORDS.isdisjoint(words)):
        return True
    if text.isascii():
        return False
    ends = window(text, _CHINESE_INSTRUCTION_CHARACTERS, _CHINESE_INSTRUCTION_CHARACTERS)
    return bool(ROUTINE_CHINESE.search(ends) or (short and COURTESY_CHINESE.search(ends)))


def _with_context(own: TextCounts, routine: float, system: str, earlier: tuple[str, ...]) -> TextCounts:
    """The newest message's counts and a share of those around it; excerpts seen before are not measured again."""
    carry = CARRY_EARLIER + (CARRY_TO_ROUTINE - CARRY_EARLIER) * routine
    totals = list(own)
    for text, share in [(system, CARRY_SYSTEM), *((text, carry) for text in earlier)]:
        if text:
            totals = [total + share * part for total, part in zip(totals, _measure_remembered(text), strict=True)]
    return TextCounts(*totals)


def parts(messages: tuple[Message, ...]) -> tuple[str, str, tuple[str, ...]]:
    """The newest user message whole, then excerpts: the leading system message; the opening and the latest others."""
    start = 1 if messages and messages[0].role in _SYSTEM_ROLES else 0
    system = window(messages[0].text, SYSTEM_HEAD, SYSTEM_TAIL) if start else ""
    newest = newest_at(messages)
    if newest < start:
        return "", system, ()
    oldest = max(start, len(messages) - EARLIER_MESSAGES - 1)
    latest = [at for at in range(oldest, len(messages)) if at != newest][-EARLIER_MESSAGES:]
    opening = [start] if start < oldest and start != newest else []
    others = [window(messages[at].text, EARLIER_HEAD, EARLIER_TAIL) for at in (*opening, *latest)]
    return messages[newest].text, system, tuple(others)


def newest_text(messages: tuple[Message, ...]) -> str:
    """Of the newest user message; without one, of the newest message; nothing of none."""
    return messages[newest_at(messages)].text if messages else ""


def newest_at(messages: tuple[Message, ...]) -> int:
    """Where the newest user message stands; without one, the newest message; -1 where there is none."""
    for at in range(len(messages) - 1, max(-1, len(messages) - 1 - SEARCHED_MESSAGES), -1):
        if messages[at].role == "user":
            return at
    return len(messages) - 1


def window(text: str, head: int, tail: int) -> str:
    """The text, or its first and last characters where it is longer than both together."""
    return text if len(text) <= head + tail else text[:head] + "\n" + text[-tail:]

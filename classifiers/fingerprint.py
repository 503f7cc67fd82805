"""Which task is this? An id of the part of a request that its application repeats from one to the next.

Enterprise traffic fills templates: the system prompt stands still, and so do the head or the tail of the newest user
message, around material that changes. What is variable by its looks (numbers, names, quotations, addresses) is
masked; where the template ends cannot be seen in one request. So the id has several parts, from coarse to fine, and
it is the evidence that tells which of them recur (see `classifiers.posterior`): a part that never does costs nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

from classifiers.base import Prompt
from classifiers.features import newest_text

# What is read, in characters; the time is bounded by these, whatever the length of a message.
SYSTEM_HEAD = 200
HEAD, TAIL = 160, 96
# Of the masked text, what is compared: less than is read, so that long names do not push other words out of it.
CLAUSE_CHARACTERS, CLOSING_CHARACTERS = 80, 48
# An opening is so many words, or so many characters of a script that is written without spaces.
OPENING_WORDS, OPENING_CHARACTERS = 4, 12
# A clause that ends before this is a heading ("### Task:"): what follows it belongs to the template as well.
CLAUSE_FROM = 20

PARTS = ("application", "opening", "clause", "closing")
_NOTHING = ("", "")
_DIGEST_BYTES = {"application": 5, "opening": 4, "clause": 4, "closing": 4}
_REMEMBERED_APPLICATIONS = 1024
_LARGEST_TOOL_COUNT = 999
_LONGEST_NAME = 200
_FULL_STOPS = ".!?;:。！？；： "

# Addresses, quotations (to the end of the window where they stay open), words with digits, names in mid-sentence. The
# first line is for speed: few characters can begin any of them. ASCII on purpose: \w would swallow Chinese clauses.
_VARIABLE = re.compile(
    r"""(?=["“「《`'0-9０-９A-Zh@])(?:
      "[^"\n]*"? | “[^”\n]*”? | 「[^」\n]*」? | 《[^》\n]*》? | `[^`\n]*`? | (?<![A-Za-z0-9])'[^'\n]*'(?![A-Za-z0-9])
    | https?://[!-~]+ | @[A-Za-z0-9.-]+
    | [A-Z]*[0-9０-９](?:[A-Za-z0-9０-９_]|[-.,:/](?=[A-Za-z0-9]))*
    | (?<=[a-z,;]\s)[A-Z][A-Za-z0-9'-]*(?:\s+[A-Z][A-Za-z0-9'-]*)*)""",
    re.VERBOSE,
)
_MASK = "#"
# A mask with the word that it ends ("user_" of "user_42"), and those that follow it.
_MASKS = re.compile(r"[A-Za-z0-9_.+-]*#(?:[\s,]*[A-Za-z0-9_.+-]*#)*")
_BOUNDARY = re.compile(r"[\n:：。！？!?;；]|\.(?=\s)")
_SHORT_BOUNDARY = re.compile(r"[\n:：。！？!?;；，,]|\.(?=\s)")
_LAST_BOUNDARY = re.compile(r"(?:[\n。！？!?]|\.\s)(?=[^\n。！？!?]*\S)")


def fingerprint(prompt: Prompt) -> str:
    """The parts named in `PARTS`, as hexadecimal digests between dots; a part that a request lacks is empty.

    Stable between processes and machines, bounded in time, and never an exception, whatever the text.
    """
    messages = prompt.messages
    system = messages[0].text[:SYSTEM_HEAD] if messages and messages[0].role in ("system", "developer") else ""
    application = _application(
        prompt.application[:_LONGEST_NAME], system, min(prompt.tool_count, _LARGEST_TOOL_COUNT), prompt.response_format
    )
    text = newest_text(messages)
    head = masked(text[:HEAD].lstrip())
    if not head:
        return application + "..."
    clause = _clause(head)
    closing = _closing(text)
    alone = len(text) <= HEAD and closing.rstrip(_FULL_STOPS) in clause
    return (
        f"{application}.{_digest(_opening(head), 'opening')}.{_digest(clause, 'clause')}."
        f"{'' if alone else _digest(closing, 'closing')}"
    )


def keys(fingerprint: str) -> tuple[tuple[str, str], ...]:
    """The names under which evidence is kept, for each of `PARTS`: of this very part, and of its one-off siblings.

    A clause is kept within its opening, the rest within the application. Both names are empty where a part is missing;
    any string may stand for a fingerprint, and then names an application.
    """
    parts = fingerprint.split(".")
    if len(parts) != len(PARTS):
        return (fingerprint, ""), _NOTHING, _NOTHING, _NOTHING
    application, opening, clause, closing = parts
    return (
        (application, ""),
        (f"{application}.{opening}", f"{application}.*") if opening else _NOTHING,
        (f"{application}.{opening}.{clause}", f"{application}.{opening}.*") if clause else _NOTHING,
        (f"{application}...{closing}", f"{application}...*") if closing else _NOTHING,
    )


def masked(text: str) -> str:
    """The text with what varies by its looks masked, in lower case; neighbouring masks are one."""
    hidden = _VARIABLE.sub(_MASK, text)
    return (_MASKS.sub(_MASK, hidden) if _MASK in hidden else hidden).lower()


@lru_cache(maxsize=_REMEMBERED_APPLICATIONS)
def _application(name: str, system: str, tool_count: int, response_format: str) -> str:
    """Remembered, since an application sends the same system prompt again and again."""
    return _digest(f"{name}\0{' '.join(masked(system).split())}\0{tool_count}\0{response_format}", "application")


def _opening(head: str) -> str:
    first = _SHORT_BOUNDARY.split(head, maxsplit=1)[0]
    if first.isascii():
        return " ".join(first.split(None, OPENING_WORDS)[:OPENING_WORDS])
    return first[:OPENING_CHARACTERS]


def _clause(head: str) -> str:
    end = _BOUNDARY.search(head, CLAUSE_FROM if head.isascii() else CLAUSE_FROM // 2)
    return head[: CLAUSE_CHARACTERS if end is None else min(end.start(), CLAUSE_CHARACTERS)]


def _closing(text: str) -> str:
    """The last line or sentence, if it begins within the window."""
    return _LAST_BOUNDARY.split(masked(text[-TAIL:].rstrip()))[-1].strip()[-CLOSING_CHARACTERS:]


def _digest(text: str, part: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES[part]).hexdigest()

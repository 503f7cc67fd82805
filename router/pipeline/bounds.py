"""What a request can take at most of each deployment that may serve it: the bounds that admission holds. No I/O.

A prompt holds at most a token for each byte that is sent: every vocabulary in use falls back to bytes, or to
one token for what it does not know. What is sent is longer than the text that the model reads: the braces,
names and quotes of a message's JSON outweigh the marks that a chat template puts around it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import orjson

from classifiers.base import TIERS
from classifiers.records import record
from policies.pricing import cost_of_tokens_nusd, dearest, most_input_cost_nusd
from policies.routing import Choice
from router.openai.requests import ChatRequest
from router.pipeline.decide import input_tokens_estimate
from router.stores.admission import Option
from router.tokenizers import TokenCounter

LEAST_TOKENS = 256
"""What a budget leaves an answer at least, unless configuration says otherwise: a paragraph or two."""
SYSTEM_PROMPT_TOKENS = 96
"""For the longest that a model's own template adds unasked (gpt-oss: identity, dates, channels; about 70)."""
TOOLS_PROMPT_TOKENS = 640
"""What describing tools adds to the tools: at most 530 (Anthropic, 'Tool use', pricing: Claude 3 Opus)."""
COUNTED_BYTES = 32_768
"""Longer prompts are not counted here: that would take more than 3 ms. Nor is a text cut that is no longer."""

_RANK = {tier: rank for rank, tier in enumerate(TIERS)}
_TEXT_KEYS = frozenset({"type", "text", "refusal", "cache_control"})
_IMAGE_KEYS = frozenset({"type", "image_url", "cache_control"})
_SPEECH_KEYS = frozenset({"type", "input_audio"})
_IMAGE_ADDRESSES = ("data:image/", "https://", "http://")

# SentencePiece, unless told otherwise, counts the text in Unicode's normal form KC, in which these may be longer:
# an Arabic ligature of 3 bytes has 33.
_GROWS = re.compile(
    "[\xa8-\xbe\u0132-\u0385\u0587\u0675-\u0678\u0958-\u0fb9\u1fc1-\u1fee\u2033-\u2057\u2150-\u2189\u222c-\u2230"
    "\u247d-\u2487\u2a0c\u2adc\u309b-\u309f\u30ff\u3200-\u33fe\ufa6c-\ufad7\ufb13-\ufefc"
    "\U0001d15e-\U0001d1c0\U0001f12a-\U0001f248]"
)


def options_of(
    choices: tuple[Choice, ...],
    request: ChatRequest,
    *,
    attempts: int,
    least_tokens: int | None = None,
    counters: Mapping[str | None, TokenCounter] | None = None,
) -> tuple[Option, ...]:
    """The bounds of each choice, in their order; each of `attempts` may bill its prompt.

    With `counters`, the texts of short prompts are counted for deployments whose tokenizer is known: about
    a quarter of the bytes in English, for about 50 microseconds a kilobyte. Worth it where the bytes are too much
    for a budget.
    """
    prompt = _prompt(request)
    known: dict[str | None, int] = {}
    options = []
    for choice in choices:
        tokenizer = choice.deployment.tokenizer
        if tokenizer not in known:
            known[tokenizer] = _text_tokens(prompt, request, tokenizer, counters)
        options.append(_option(choice, request, prompt, known[tokenizer], attempts, least_tokens or LEAST_TOKENS))
    return tuple(options)


def limits_of(
    choices: tuple[Choice, ...],
    options: tuple[Option, ...],
    caps: tuple[int, ...],
    request: ChatRequest,
    counters: Mapping[str | None, TokenCounter],
) -> dict[str, int]:
    """What to send as the longest answer, by deployment, of a request that sets no limit itself.

    That is where a budget pays for less than the longest, and where the longest is ours to hold. Prompt and limit
    must fit the window together, or providers refuse the request.
    """
    if request.max_output_tokens is not None:
        return {}
    return {
        option.deployment: _beside_the_prompt(choice, option, cap, request, counters)
        for choice, option, cap in zip(choices, options, caps, strict=True)
        if cap < option.longest or choice.deployment.limits_output
    }


def _beside_the_prompt(
    choice: Choice, option: Option, cap: int, request: ChatRequest, counters: Mapping[str | None, TokenCounter]
) -> int:
    window = choice.deployment.context_window
    if cap + option.base_tokens <= window:
        return cap
    counter = counters.get(choice.deployment.tokenizer)
    if choice.deployment.tokenizer is not None and counter is not None and request.size_bytes <= COUNTED_BYTES:
        prompt_tokens = counter.count_messages(request.messages, request.body.get("tools"))
    else:
        prompt_tokens = input_tokens_estimate(request) * 5 // 4  # an estimate: rather too short than refused
    return max(min(cap, window - prompt_tokens - SYSTEM_PROMPT_TOKENS), 1)


@record()
class _Prompt:
    """`wire` is the body as it is sent, but for its images. `referring`: to media that are not in it.

    `predicted` bounds the tokens of a prediction: what of it does not come true is billed as output (OpenAI,
    'Predicted outputs').
    """

    wire: bytes
    image_count: int
    referring: bool
    predicted: int


def _option(
    choice: Choice, request: ChatRequest, prompt: _Prompt, text_tokens: int, attempts: int, least_tokens: int
) -> Option:
    deployment = choice.deployment
    window, choices, asked_for = deployment.context_window, request.choices, request.max_output_tokens
    # A prompt that is longer than the window is refused, and costs nothing.
    input_tokens = (
        window if prompt.referring else min(text_tokens + prompt.image_count * deployment.image_tokens, window)
    )
    longest = min(asked_for or deployment.max_output_tokens, window)
    price = dearest(choice.price, input_tokens)  # a long prompt makes the answer's tokens dearer, too
    base_nusd, base_tokens = most_input_cost_nusd(input_tokens, price) * attempts, input_tokens * attempts
    if prompt.predicted:
        base_nusd += cost_of_tokens_nusd(0, prompt.predicted * choices, price)
        base_tokens += prompt.predicted * choices
    return Option(
        deployment=deployment.name,
        tier=deployment.tier,
        rank=_RANK[deployment.tier],
        base_nusd=base_nusd,
        nusd_per_token=cost_of_tokens_nusd(0, 1, price) * choices,
        base_tokens=base_tokens,
        tokens_per_token=choices,
        longest=longest,
        least=longest if asked_for is not None else min(longest, least_tokens),
    )


def _text_tokens(
    prompt: _Prompt,
    request: ChatRequest,
    tokenizer: str | None,
    counters: Mapping[str | None, TokenCounter] | None,
) -> int:
    """The most that all but the images may come to, with one tokenizer."""
    added = SYSTEM_PROMPT_TOKENS + (
        TOOLS_PROMPT_TOKENS if request.prompt.tool_count or request.body.get("functions") else 0
    )
    if tokenizer is None:
        return _normalized_bytes(prompt.wire) + added
    counter = counters.get(tokenizer) if counters else None
    if counter is None or len(prompt.wire) > COUNTED_BYTES:
        return len(prompt.wire) + added
    spared = sum([_bytes_of(text) - counter.count_text(text) for text in _texts(request)])
    return len(prompt.wire) - spared + added


def _prompt(request: ChatRequest) -> _Prompt:
    image_count, referring = 0, False
    messages: list[dict[str, Any]] = []
    for message in request.messages:
        content = message.get("content")
        referring = referring or bool(message.get("audio"))
        if isinstance(content, list):
            left = [part for part in content if not _is_image(part)]
            image_count += len(content) - len(left)
            message = message | {"content": left}
            referring = referring or not all(part.keys() <= _TEXT_KEYS or part.keys() <= _SPEECH_KEYS for part in left)
        messages.append(message)
    prediction = request.body.get("prediction")
    predicted = len(orjson.dumps(prediction)) if prediction else 0
    return _Prompt(orjson.dumps(request.body | {"messages": messages}), image_count, referring, predicted)


def _is_image(part: dict[str, Any]) -> bool:
    """An image and nothing else. Other media have come in its clothes: a document by its data URL, or its format."""
    image = part.get("image_url")
    if isinstance(image, dict) and image.keys() <= {"url", "detail"}:
        image = image.get("url")
    return isinstance(image, str) and image.startswith(_IMAGE_ADDRESSES) and part.keys() <= _IMAGE_KEYS


def _texts(request: ChatRequest) -> list[str]:
    """The texts that a chat template puts between marks of its own, each to be counted for itself."""
    texts: list[str] = []
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts.extend([part["text"] for part in content if isinstance(part.get("text"), str)])
    return texts


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _normalized_bytes(wire: bytes) -> int:
    """As many as the text has in its longer form, as it is or in normal form KC."""
    if wire.isascii():
        return len(wire)
    text = wire.decode()
    return max(len(wire), len(unicodedata.normalize("NFKC", text).encode())) if _GROWS.search(text) else len(wire)

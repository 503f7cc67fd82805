"""Flat records: a CSV file or JSON lines of somebody's own making, by the names that such columns usually have."""

from __future__ import annotations

from typing import Any

from router.replay.chat import answer_text, chat_body, request_body
from router.replay.fields import Fields, cost_of, first, instant_ms, parsed, text_of, usage_of
from router.replay.rows import BadRow, LoggedRequest

COLUMNS: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_name", "request_model", "response_model", "deployment"),
    "prompt": ("prompt", "messages", "request", "input", "question", "query"),
    "answer": ("response", "completion", "output", "answer", "reply"),
    "input_tokens": ("input_tokens", "prompt_tokens", "tokens_in", "n_prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens", "tokens_out", "n_completion_tokens"),
    "cached_input_tokens": ("cached_input_tokens", "cached_tokens"),
    "cost": ("cost", "cost_usd", "spend", "spend_usd", "total_cost", "price_usd"),
    "time": ("timestamp", "time", "created_at", "started_at", "date", "datetime", "created"),
    "application": ("team", "application", "project", "user", "user_id", "api_key_name"),
    "id": ("request_id", "id"),
}
"""What is read -> the names it goes by, the likeliest first; upper case and blanks count for nothing."""


def is_plain(record: Fields) -> bool:
    names = {normalized(name) for name in record}
    counts = any(name in names for key in ("input_tokens", "prompt") for name in COLUMNS[key])
    return counts and any(name in names for name in COLUMNS["model"])


def read_plain(record: Fields) -> LoggedRequest:
    """Raises BadRow."""
    values = {normalized(name): value for name, value in record.items()}
    found = {key: first(values, *names) for key, names in COLUMNS.items()}
    model = text_of(found["model"])
    if not model:
        raise BadRow("no model", "model: found none; it must name the model that answered")
    return LoggedRequest(
        model=model,
        body=request_body(found["prompt"])
        or chat_body(model, found["prompt"], values)
        or _of_json(model, found, values),
        answer=answer_text(found["answer"]),
        usage=usage_of(found["input_tokens"], found["output_tokens"], found["cached_input_tokens"]),
        at_ms=instant_ms(found["time"]),
        cost_nusd=cost_of(found["cost"]),
        application=text_of(found["application"]),
        id=text_of(found["id"]),
    )


def _of_json(model: str, found: Fields, values: Fields) -> dict[str, Any] | None:
    """A prompt that is JSON of the caller's own, and neither a request nor messages."""
    text = found["prompt"]
    if not isinstance(text, str) or not parsed(text):
        return None
    return chat_body(model, [{"role": "user", "content": text}], values)


def normalized(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")

"""Logs in OpenAI's own shapes: pairs of request and response, batch files, stored completions, bare bodies.

Sources: OpenAI API reference, "Chat", "Batch" (request input object, request output object) and "List Chat
Completions"; the same shapes are what most home-made logs hold.
"""

from __future__ import annotations

from typing import Any

from router.replay.chat import (
    answer_text,
    chat_body,
    chat_usage,
    request_body,
    response_of,
    responses_body,
    wrote_nothing,
)
from router.replay.fields import Fields, cost_of, first, instant_ms, is_failure, mapping, text_of
from router.replay.rows import BadRow, LoggedRequest, NoCall

_TIMES = ("created_at", "timestamp", "time", "created", "at")
_COSTS = ("cost", "cost_usd", "spend")
_NOT_JOINED = (
    "a request of a batch without its answer; a file of such requests is joined to the answers where it is plain, not "
    "packed, and its first line is a request"
)
_SENDERS = ("team", "team_id", "user", "user_id")


def is_openai(record: Fields) -> bool:
    """A pair, a line of a batch's input or output, or the body of a chat completion by itself."""
    if "response" in record and mapping(record.get("request")):
        return True
    if "custom_id" in record:
        return "body" in record or "response" in record
    return "choices" in record or ("messages" in record and "usage" in record)


def read_openai(record: Fields) -> LoggedRequest:
    """Raises BadRow and NoCall."""
    if "custom_id" in record:
        return _batch_line(record)
    if "request" in record:
        return _pair(record, mapping(record["request"]), response_of(record.get("response")))
    return _bare(record)


def _pair(record: Fields, request: dict[str, Any], response: dict[str, Any]) -> LoggedRequest:
    """Either side may be the body itself or hold it as `body`, beside headers and status."""
    _refuse_unanswered(response)
    asked, answered = mapping(request.get("body")) or request, response_of(response.get("body")) or response
    _refuse_unanswered(answered)
    return LoggedRequest(
        model=_model(first(answered, "model") or first(asked, "model")),
        body=request_body(asked) or responses_body(asked),
        answer=answer_text(answered),
        usage=chat_usage(answered),
        at_ms=instant_ms(first(record, *_TIMES) or first(answered, "created", "created_at")),
        cost_nusd=cost_of(first(record, *_COSTS)),
        application=text_of(first(record, *_SENDERS) or asked.get("user")),
        id=text_of(answered.get("id")),
    )


def _batch_line(record: Fields) -> LoggedRequest:
    """A line of a batch's output, which repeats no prompt; its `request` where the input was joined to it."""
    response = record.get("response")
    if "response" not in record:
        raise BadRow("missing usage", _NOT_JOINED)
    if not isinstance(response, dict):
        raise NoCall
    _refuse_unanswered(response)
    answered, asked = mapping(response.get("body")), mapping(record.get("body"))
    _refuse_unanswered(answered)
    return LoggedRequest(
        model=_model(first(answered, "model") or first(asked, "model")),
        body=request_body(asked) or responses_body(asked),
        answer=answer_text(answered),
        usage=chat_usage(answered),
        at_ms=instant_ms(first(answered, "created", "created_at")),
        application=text_of(asked.get("user")),
        batch=True,
        id=text_of(answered.get("id")),
    )


def _bare(record: Fields) -> LoggedRequest:
    """A completion that was stored with its messages or without, or a request with what it used written beside."""
    model = _model(first(record, "model"))
    answered = mapping(record.get("response")) or record
    body = request_body(record) or chat_body(model, record.get("input"))
    return LoggedRequest(
        model=model,
        body=None if body is None else _only_the_request(body),
        answer=answer_text({"choices": answered.get("choices")}) if "choices" in answered else None,
        usage=chat_usage(record),
        at_ms=instant_ms(first(record, *_TIMES)),
        cost_nusd=cost_of(first(record, *_COSTS)),
        application=text_of(first(record, *_SENDERS)),
        id=text_of(record.get("id")),
    )


_OF_THE_ANSWER = frozenset({"id", "object", "choices", "usage", "response", "system_fingerprint", *_TIMES, *_COSTS})


def _only_the_request(body: dict[str, Any]) -> dict[str, Any]:
    """Else no two bodies would be repeats: each answer has an id and a time of its own."""
    return {name: value for name, value in body.items() if name not in _OF_THE_ANSWER}


def _refuse_unanswered(response: dict[str, Any]) -> None:
    status = first(response, "status_code", "status")
    if not response or response.get("error") or is_failure(status) or wrote_nothing(response):
        raise NoCall


def _model(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadRow("no model", "model: found none; it must name the model that answered")
    return value

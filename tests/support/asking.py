"""Asking a server over plain HTTP, with prompts that nobody has asked before."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import httpx

_numbers = count(1)


def question(model: str = "small", text: str = "", **fields: Any) -> dict[str, Any]:
    content = text or f"Question number {next(_numbers)}"
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=question(**fields))


def events(text: str) -> list[Any]:
    """The data of every event of a stream."""
    data = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [json.loads(item) if item != "[DONE]" else item for item in data]


def error_code(response: httpx.Response) -> str:
    code: str = response.json()["error"]["code"]
    return code


def request_id(response: httpx.Response) -> str:
    return response.headers["x-parsimony-request-id"]

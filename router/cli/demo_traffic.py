"""The demo's traffic: requests of three teams, sent through the real endpoint with the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

CONCURRENCY = 16
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One line of traffic.jsonl: the team, and the keyword arguments of the client's `create`."""

    team: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What came back: HTTP status (0 where nothing did), the error's code, and the headers in lower case."""

    team: str
    status: int
    code: str | None
    message: str
    headers: Mapping[str, str]

    @property
    def answered(self) -> bool:
        return self.status == 200

    @property
    def refused(self) -> bool:
        """Refused for want of budget, as the design says it."""
        return self.status == 429 and self.code == "insufficient_quota"


def read_traffic(path: Path, limit: int | None = None) -> tuple[DemoRequest, ...]:
    """The first `limit` requests of the file, or all. Raises OSError and ValueError."""
    lines = path.read_text(encoding="utf-8").splitlines()[:limit]
    return tuple(_request(json.loads(line)) for line in lines)


def _request(values: dict[str, Any]) -> DemoRequest:
    return DemoRequest(values.pop("team"), values)


async def send_all(
    requests: Sequence[DemoRequest],
    base_url: str,
    secrets: Mapping[str, str],
    on_outcome: Callable[[DemoOutcome], None],
) -> list[DemoOutcome]:
    """Sends them in order, CONCURRENCY at a time, each with its team's key; outcomes in order of arrival."""
    outcomes: list[DemoOutcome] = []
    clients = {
        team: openai.AsyncOpenAI(base_url=base_url, api_key=secret, max_retries=0, timeout=TIMEOUT_S)
        for team, secret in secrets.items()
    }
    waiting = iter(requests)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(_send_next(waiting, clients, outcomes, on_outcome))
    finally:
        for client in clients.values():
            await client.close()
    return outcomes


async def _send_next(
    waiting: Iterator[DemoRequest],
    clients: Mapping[str, openai.AsyncOpenAI],
    outcomes: list[DemoOutcome],
    on_outcome: Callable[[DemoOutcome], None],
) -> None:
    for request in waiting:
        outcome = await send(clients[request.team], request)
        outcomes.append(outcome)
        on_outcome(outcome)


async def send(client: openai.AsyncOpenAI, request: DemoRequest) -> DemoOutcome:
    """One request, its answer read to the end."""
    try:
        raw = await client.chat.completions.with_raw_response.create(**request.arguments)
        if request.arguments.get("stream"):
            async for _ in raw.parse():
                pass
        return DemoOutcome(request.team, raw.status_code, None, "", _lower(raw.headers))
    except openai.APIStatusError as error:
        return DemoOutcome(request.team, error.status_code, error.code, error.message, _lower(error.response.headers))
    except openai.APIError as error:
        return DemoOutcome(request.team, 0, error.code, f"{type(error).__name__}: {error.message}", {})
    except httpx.HTTPError as error:
        # The client translates what httpx raises before the answer begins, but not in mid-stream.
        return DemoOutcome(request.team, 0, None, f"{type(error).__name__}: {error}", {})


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}

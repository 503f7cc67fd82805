"""The demo's traffic: what the file holds, and what sending it reports."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.cli.demo_traffic import DemoOutcome, DemoRequest, read_traffic, send_all

TRAFFIC = Path(__file__).parents[2] / "configs" / "demo" / "traffic.jsonl"
TEAMS = ("support", "engineering", "research")


@pytest.fixture(scope="module")
def requests() -> tuple[DemoRequest, ...]:
    return read_traffic(TRAFFIC)


@pytest.fixture
def upstream() -> Iterator[str]:
    program = "from router.providers.simulated import run_simulated; run_simulated()"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def text_of(request: DemoRequest) -> str:
    return str(request.arguments["messages"][-1]["content"])


def test_the_file_holds_what_the_demo_promises(requests: tuple[DemoRequest, ...]) -> None:
    seen = Counter(json.dumps([request.team, request.arguments], sort_keys=True) for request in requests)
    chinese = sum(bool(re.search("[\u4e00-\u9fff]", text_of(request))) for request in requests)
    assert len(requests) >= 240
    assert len(seen) >= 150
    assert 0.15 <= 1 - len(seen) / len(requests) <= 0.25
    assert 0.4 <= chinese / len(requests) <= 0.6
    assert Counter(request.team for request in requests).keys() == set(TEAMS)
    assert {"stream", "tools", "response_format", "max_tokens"} <= {name for r in requests for name in r.arguments}
    assert any(len(request.arguments["messages"]) > 3 for request in requests)


def test_the_head_of_the_file_shows_every_team_and_a_repeat(requests: tuple[DemoRequest, ...]) -> None:
    head = requests[:40]
    assert {request.team for request in head} == set(TEAMS)
    assert len({json.dumps(request.arguments, sort_keys=True) for request in head}) < len(head)


async def test_outcomes_tell_answers_from_errors(upstream: str) -> None:
    def asking(team: str, model: str, **more: object) -> DemoRequest:
        return DemoRequest(team, {"model": model, "messages": [{"role": "user", "content": "hi"}], **more})

    told: list[DemoOutcome] = []
    sent = [
        asking("support", "phi-2"),
        asking("support", "phi-2", stream=True),
        asking("research", "gpt-4+rate429"),
        asking("research", "gpt-4+cut"),
        asking("research", "gpt-4+cut", stream=True),
    ]
    outcomes = await send_all(sent, upstream, {"support": "one", "research": "two"}, told.append)
    assert outcomes == told
    assert Counter((o.team, o.status, o.answered, o.refused) for o in outcomes) == {
        ("support", 200, True, False): 2,
        ("research", 429, False, False): 1,
        ("research", 0, False, False): 2,
    }
    assert {o.headers.get("x-parsimony-simulated") for o in outcomes if o.status} == {"true"}

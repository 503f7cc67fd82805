"""Recorded answers of real models through the real server: the savings report agrees with a sum made by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.replay import (
    Playback,
    Recorded,
    expected_tokens,
    list_price,
    load_recordings,
    prompt_tokens,
    recordings_path,
    text_tokens,
)
from tests.support.server import Server, deployment, serving
from tests.support.upstream import upstream_server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.replay,
    pytest.mark.skipif(
        not recordings_path().exists(),
        reason="the recorded answers are not here; PARSIMONY_SHARED may name the folder that holds data/replay",
    ),
]

BASELINE = "gpt-4-1106-preview"
PRICE_OF = {"mistral-7b-instruct": "mistral-7b", "mistral-medium": "mistral-medium", BASELINE: BASELINE}
TEAMS = ("search", "support")
EVERY = 4
REPEATED = 20
PINNED = 10
SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer as the client got it."""

    team: str
    recorded: Recorded
    deployment: str
    hit: bool
    text: str

    @property
    def realised_nusd(self) -> int:
        if self.hit:
            return 0
        usage = prompt_tokens(self.recorded.prompt), text_tokens(self.text)
        return list_price(PRICE_OF[self.deployment]).cost_nusd(*usage)

    @property
    def counterfactual_nusd(self) -> int:
        written = text_tokens(self.text)
        if self.deployment != BASELINE:
            written = expected_tokens(PRICE_OF[self.deployment], BASELINE, written)
        return list_price(BASELINE).cost_nusd(prompt_tokens(self.recorded.prompt), written)

    @property
    def truth_nusd(self) -> int:
        """What the baseline's own answer to the prompt costs."""
        answer = self.recorded.answers[BASELINE]
        return list_price(BASELINE).cost_nusd(prompt_tokens(self.recorded.prompt), text_tokens(answer))


@dataclass(frozen=True, slots=True)
class Replayed:
    report: dict[str, Any]
    answered: list[Answered]
    rows: list[dict[str, Any]]


def config(base_url: str) -> dict[str, Any]:
    tiers = dict(zip(PRICE_OF, ("simple", "moderate", "complex"), strict=True))
    return {
        "baseline": BASELINE,
        "deployments": [deployment(name, base_url, price=PRICE_OF[name], tier=tiers[name]) for name in PRICE_OF],
        "aliases": {"auto": {}},
    }


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    recordings = load_recordings(EVERY)
    with (
        upstream_server(Playback(recordings)) as upstream,
        serving(tmp_path_factory.mktemp("replay"), config(upstream.base_url)) as server,
    ):
        secrets = {team: server.create_key(team)["secret"] for team in TEAMS}
        answered = play(server, secrets, recordings)
        server.booked()
        report = server.command("report", "savings", "--format", "json")
        assert report.returncode == 0, report.stderr
        yield Replayed(json.loads(report.stdout), answered, server.ledger())


def ask_all(server: Server, secrets: dict[str, str], *batches: list[tuple[Recorded, str, str, bool]]) -> list[Answered]:
    """One batch after the other; each of prompt, team, model, and whether it is to be streamed."""
    with httpx.Client(base_url=server.url, timeout=30.0) as client, ThreadPoolExecutor(8) as pool:

        def ask(item: tuple[Recorded, str, str, bool]) -> Answered:
            return ask_one(client, secrets[item[1]], *item)

        return [answered for batch in batches for answered in pool.map(ask, batch)]


def play(server: Server, secrets: dict[str, str], recordings: list[Recorded]) -> list[Answered]:
    """Every prompt once, alternately streamed and by either team; then some again; then some to the baseline."""
    first = [(recorded, TEAMS[index % 2], "auto", index % 4 < 2) for index, recorded in enumerate(recordings)]
    pinned = [(recorded, TEAMS[0], BASELINE, False) for recorded in recordings[:PINNED]]
    return ask_all(server, secrets, first, first[:REPEATED], pinned)


def ask_one(client: httpx.Client, secret: str, recorded: Recorded, team: str, model: str, stream: bool) -> Answered:
    asked = {"model": model, "messages": [{"role": "user", "content": recorded.prompt}], "stream": stream}
    response = client.post("/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {secret}"})
    assert response.status_code == 200, response.text
    headers = response.headers
    text = streamed_text(response.text) if stream else response.json()["choices"][0]["message"]["content"]
    return Answered(team, recorded, headers["x-parsimony-model"], headers["x-parsimony-cache"] == "hit", text)


def streamed_text(body: str) -> str:
    data = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    chunks = [json.loads(item) for item in data if item != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def line(lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [entry for entry in lines if entry["name"] == name]
    return found


def sums(answered: list[Answered]) -> dict[str, int]:
    realised = sum(one.realised_nusd for one in answered)
    counterfactual = sum(one.counterfactual_nusd for one in answered)
    return {
        "request_count": len(answered),
        "realised_nusd": realised,
        "counterfactual_nusd": counterfactual,
        "saved_nusd": counterfactual - realised,
    }


def amounts(entry: dict[str, Any]) -> dict[str, int]:
    return {name: entry[name] for name in ("request_count", "realised_nusd", "counterfactual_nusd", "saved_nusd")}


def test_every_answer_came_through_unchanged(replayed: Replayed) -> None:
    for one in replayed.answered:
        assert one.text == one.recorded.answers[one.deployment]


def test_every_model_was_used_and_repeats_came_from_the_cache(replayed: Replayed) -> None:
    used = Counter(one.deployment for one in replayed.answered)
    assert set(used) == set(PRICE_OF), used
    assert [one.hit for one in replayed.answered].count(True) == REPEATED


def test_the_total_agrees_to_the_nano_dollar(replayed: Replayed) -> None:
    assert amounts(replayed.report["total"]) == sums(replayed.answered)
    assert replayed.report["total"]["saved_nusd"] > 0
    assert replayed.report["simulated"] is False


@pytest.mark.parametrize("team", TEAMS)
def test_each_team_agrees(replayed: Replayed, team: str) -> None:
    answered = [one for one in replayed.answered if one.team == team]
    assert amounts(line(replayed.report["by_team"], team)) == sums(answered)


@pytest.mark.parametrize("name", PRICE_OF)
def test_each_model_agrees(replayed: Replayed, name: str) -> None:
    answered = [one for one in replayed.answered if one.deployment == name and not one.hit]
    assert amounts(line(replayed.report["by_model"], name)) == sums(answered)


def test_the_cause_of_each_saving_agrees(replayed: Replayed) -> None:
    hits = [one for one in replayed.answered if one.hit]
    assert amounts(line(replayed.report["by_cause"], "response_cache")) == sums(hits)
    baseline = [one for one in replayed.answered if one.deployment == BASELINE and not one.hit]
    assert sums(baseline)["saved_nusd"] == 0
    assert replayed.report["counterfactual"]["measured_nusd"] == sums(baseline)["counterfactual_nusd"]


def test_the_ledger_counts_the_same_tokens(replayed: Replayed) -> None:
    fresh = [one for one in replayed.answered if not one.hit]
    wanted = sorted((prompt_tokens(one.recorded.prompt), text_tokens(one.text)) for one in fresh)
    paid = [row for row in replayed.rows if row["cache"] != "hit"]
    assert sorted((row["input_tokens"], row["output_tokens"]) for row in paid) == wanted
    assert {row["usage_source"] for row in paid} == {"provider"}


# ---- measured, the report comes to what the baseline really answered --------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    """Every prompt once, a share of them sent to the baseline as well."""
    recordings = load_recordings(EVERY)
    with upstream_server(Playback(recordings)) as upstream:
        settings = config(upstream.base_url) | {"shadow": {"share": SHARE, "limit_usd": "100"}}
        with serving(tmp_path_factory.mktemp("measured"), settings) as server:
            asked = [(recorded, TEAMS[index % 2], "auto", False) for index, recorded in enumerate(recordings)]
            answered = ask_all(server, {team: server.create_key(team)["secret"] for team in TEAMS}, asked)
            server.booked()
            report = server.command("report", "savings", "--format", "json")
            assert report.returncode == 0, report.stderr
            yield Replayed(json.loads(report.stdout), answered, server.ledger())


def test_what_was_sampled_costs_what_the_baseline_answered(measured: Replayed) -> None:
    shadows = [row for row in measured.rows if row["kind"] == "shadow"]
    truths = {one.recorded.prompt: one.truth_nusd for one in measured.answered}
    assert len(shadows) == measured.report["counterfactual"]["sample_count"] > 0
    assert not Counter(row["cost_nusd"] for row in shadows) - Counter(truths.values())
    assert measured.report["total"]["driver_measuring_nusd"] == -sum(row["cost_nusd"] for row in shadows)


def test_the_corrected_interval_holds_what_the_baseline_would_have_cost(measured: Replayed) -> None:
    """An interval of 95 % misses one time in twenty; of thrice its reach there is no more chance to speak of."""
    total = measured.report["total"]
    truth = sum(one.truth_nusd for one in measured.answered)
    corrected, booked = total["counterfactual_nusd"], sum(one.counterfactual_nusd for one in measured.answered)
    assert (total["booked_counterfactual_nusd"], total["correction_nusd"]) == (booked, corrected - booked)
    below, above = corrected - total["counterfactual_low_nusd"], total["counterfactual_high_nusd"] - corrected
    assert corrected - 3 * below <= truth <= corrected + 3 * above
    assert 0 < below + above < truth

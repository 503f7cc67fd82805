"""Hard budgets hold: under many clients and workers at once, and whatever is killed, cut or emptied meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policies.budget import Budget
from router.prices import load_prices
from tests.support.budget_load import (
    MAX_OUTPUT_TOKENS,
    Asked,
    Crowd,
    GreedyProvider,
    Seen,
    assert_books_agree,
    most_at_once,
    most_in_a_minute,
    request_body,
)
from tests.support.misfortunes import RECOVERY_S, Misfortunes, Workers
from tests.support.server import PRICES, Server, deployment, serving
from tests.support.upstream import Upstream

pytestmark = pytest.mark.e2e

REQUEST_COUNT = 5_000
CHAOTIC_COUNT = 1_500
WORKER_COUNT = 4
SEED = 4
LEAST_USED = 0.97
EVERY_USERS_NUSD = 30_000_000

# By deployment: its tier, and the model whose price and tokenizer it has. Mistral's tokenizers are not at hand.
DEPLOYMENTS = {
    "swift": ("simple", "gpt-3.5-turbo"),
    "steady": ("moderate", "mistral-medium-3"),
    "grand": ("complex", "mistral-medium-3"),
    "lane": ("simple", "gpt-4o-mini"),
    "first": ("simple", "gpt-3.5-turbo"),
    "second": ("simple", "gpt-4o"),
}
FIRST_OF = {"auto": "steady", "pair": "first"}
"""For guessing what the requests of an alias will use."""


@dataclass(slots=True)
class Case:
    """One hard budget, the requests that it is to refuse half of, and whose they are."""

    name: str
    terms: dict[str, Any] = field(default_factory=dict)
    subject_kind: str = "team"
    subject_id: str = ""
    models: Sequence[str] = ("swift", "auto", "steady")
    end_user: str = ""
    tags: str = ""
    key: dict[str, Any] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)
    budget: Budget | None = None

    @property
    def unit(self) -> str:
        return str(self.terms.get("unit", "usd"))

    @property
    def is_a_minutes(self) -> bool:
        return self.terms.get("window") == "minute"


def noon_zone() -> str:
    """A time zone where it is about noon: no day ends during the test."""
    hours_ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-hours_ahead:+d}" if hours_ahead else "UTC"


def all_cases() -> list[Case]:
    """Each with a team, a project, a key, a user or a tag of its own."""
    rate = {"unit": "requests", "window": "minute"}
    return [
        Case("usd a month"),
        Case("usd a day elsewhere", {"window": "day", "timezone": noon_zone(), "action": "reject"}),
        Case("usd in 24 hours", {"window": "rolling:24h"}),
        Case("usd for ever", {"window": "lifetime", "action": "reject"}),
        Case("of a project", {"window": "week"}, subject_kind="project", subject_id="of-a-project"),
        Case("of a key", {"window": "quarter"}, subject_kind="key"),
        *(Case(f"of user {name}", {}, "user", "crowded/*", end_user=name) for name in ("ann", "bo", "陈")),
        Case("of user dee", {"action": "reject"}, "user", "crowded/dee", end_user="dee"),
        Case("of a tag", {"window": "year"}, "tag", "nightly", tags="nightly"),
        Case("of one model", {"model": "first"}, models=["pair"]),
        Case("of one tier", {"tier": "complex"}, models=["grand"]),
        Case("tokens a month", {"unit": "tokens"}),
        Case("requests a month", {"unit": "requests", "action": "reject"}),
        Case("requests a minute", rate),
        Case("tokens a minute", {"unit": "tokens", "window": "minute"}),
        Case("requests at once", {"unit": "parallel", "window": "now"}, models=["lane"]),
    ]


def configuration(base_url: str, **changes: Any) -> dict[str, Any]:
    """Deployments of each tier; `pair` leads to two of the same."""
    return {
        "deployments": [
            deployment(name, base_url, tier=tier, price=price, max_output_tokens=MAX_OUTPUT_TOKENS)
            for name, (tier, price) in DEPLOYMENTS.items()
        ],
        "aliases": {
            "auto": {"deployments": ["swift", "steady"], "max_fallbacks": 1},
            "pair": {"deployments": ["first", "second"], "max_fallbacks": 0},
        },
        "baseline": "gpt-4",
        "retries": {"max_attempts": 1, "base_seconds": 0.01, "max_seconds": 1},
        "server": {"drain_seconds": 6, "workers": WORKER_COUNT},
        **changes,
    }


def set_up(server: Server, cases: Sequence[Case], provider: GreedyProvider, request_count: int) -> list[Asked]:
    """Keys, requests, and budgets of half of what these would use; the requests in the order to be asked in."""
    dice = random.Random(SEED)
    server.put_budget("organization", "default", 10**12)
    for case in cases:
        slug = case.name.replace(" ", "-")
        team = case.subject_id.partition("/")[0] if case.subject_kind == "user" else slug
        project = case.subject_id if case.subject_kind == "project" else None
        case.key = server.create_key(team, project=project, trusted=bool(case.end_user or case.tags))
        for number in range(request_count // len(cases)):
            body = request_body(case.name, number, dice.choice(case.models), dice)
            if case.end_user:
                body["user"] = case.end_user
            headers = {"x-parsimony-tags": case.tags} if case.tags else {}
            case.requests.append(Asked(case.name, case.key["secret"], body, headers))
        subject = case.key["id"] if case.subject_kind == "key" else case.subject_id or slug
        case.budget = server.put_budget(case.subject_kind, subject, _limit(case, provider), **case.terms)
    # A minute's budget is to be used up within the minute: its requests come first.
    urgency = {case.name: 0.3 if case.is_a_minutes else 1.0 for case in cases}
    requests = [asked for case in cases for asked in case.requests]
    return sorted(requests, key=lambda asked: dice.random() * urgency[asked.case])


def _limit(case: Case, provider: GreedyProvider) -> int:
    if case.unit == "parallel":
        return 2
    if case.unit == "requests":
        return len(case.requests) // 2
    if case.subject_id.endswith("/*"):
        return EVERY_USERS_NUSD
    wanted = 0
    for asked in case.requests:
        model = FIRST_OF.get(asked.body["model"], asked.body["model"])
        usage = provider.usage_of(model, asked.body)
        in_tokens = case.unit == "tokens"
        wanted += usage.input_tokens + usage.output_tokens if in_tokens else provider.cost_nusd(model, usage)
    return wanted // 2


def used(server: Server, case: Case, upstream: Upstream) -> int:
    """By the ledger; of what is over in a moment, the most that there ever was."""
    assert case.budget is not None
    if case.unit == "parallel":
        return most_at_once(upstream.calls("lane"))
    if case.is_a_minutes:
        return most_in_a_minute(server, case.budget)
    sums = server.stores().ledger.usage(case.budget, 0, 2**53)
    return sums.get((case.end_user if case.budget.is_of_every_user else "", 0), 0)


def assert_refused_in_form(case: Case, refused: Sequence[Seen]) -> None:
    rate_limited = case.is_a_minutes or case.unit == "parallel"
    for seen in refused:
        assert (seen.status, seen.code) == (429, "rate_limit_exceeded" if rate_limited else "insufficient_quota")
        if rate_limited:
            kind = "tokens" if case.unit == "tokens" else "requests"
            assert case.budget is not None
            assert seen.headers[f"x-ratelimit-limit-{kind}"] == str(case.budget.limit)
            assert int(seen.headers["retry-after"]) <= 62
        elif "x-should-retry" not in seen.headers:
            assert seen.headers["retry-after"] == "1"  # others only held it
        else:
            assert seen.headers["x-should-retry"] == "false"
            assert ("retry-after" in seen.headers) or case.terms.get("window") in ("lifetime", "rolling:24h")


def table(rows: Sequence[tuple[str, int, int, int]]) -> str:
    """budget, limit, used, share, overshoot, refused."""
    lines = ["", f"{'budget':<22}{'limit':>14}{'used':>14}{'used, %':>9}{'overshoot':>11}{'refused':>9}"]
    for name, limit, amount, refused in rows:
        share = f"{100 * amount / limit:.2f}"
        lines.append(f"{name:<22}{limit:>14,}{amount:>14,}{share:>9}{max(amount - limit, 0):>11}{refused:>9}")
    return "\n".join(lines)


@pytest.fixture
def provider() -> GreedyProvider:
    return provider_of()


def provider_of(**manners: float) -> GreedyProvider:
    prices = load_prices(PRICES)
    return GreedyProvider({name: prices.model(price) for name, (_, price) in DEPLOYMENTS.items()}, **manners)


@pytest.fixture
def restless() -> GreedyProvider:
    """Slower, sometimes without usage, sometimes not answering at all."""
    return provider_of(pause_s=0.05, silent_share=0.1, failing_share=0.05)


def test_no_budget_is_overspent_and_hardly_any_of_it_is_stranded(
    module_upstream: Upstream, upstream: Upstream, provider: GreedyProvider, tmp_path: Path
) -> None:
    upstream.default = provider
    cases = all_cases()
    with serving(tmp_path, configuration(module_upstream.base_url)) as server:
        seen = Crowd(server.url, set_up(server, cases, provider, REQUEST_COUNT)).run()
        server.booked()

        by_case: dict[str, list[Seen]] = {case.name: [] for case in cases}
        for one in seen:
            by_case[one.asked.case].append(one)
        others = Counter((one.status, one.code) for one in seen if one.status not in (200, 429))
        assert others == {}, server.log_tail()
        rows = []
        for case in cases:
            refused = [one for one in by_case[case.name] if one.status == 429]
            assert case.budget is not None
            rows.append((case.name, case.budget.limit, used(server, case, upstream), len(refused)))
        print(table(rows))
        assert [row for row in server.ledger() if row["cost_nusd"] > row["reserved_nusd"]] == [], "beyond its bound"
        for case, (name, limit, amount, refused_count) in zip(cases, rows, strict=True):
            assert amount <= limit, f"{name} is overspent"
            assert amount >= LEAST_USED * limit, f"{name} is stranded"
            # What one model of an alias may no longer take, the other does.
            assert (refused_count == 0) == (case.terms.get("model") is not None), name
            assert_refused_in_form(case, [one for one in by_case[name] if one.status == 429])
        assert_books_agree(server)
        assert_billed_as_booked(server, provider)
        assert len(server.ledger()) == len(seen)


def assert_billed_as_booked(server: Server, provider: GreedyProvider) -> None:
    """The ledger has what the provider billed, to the nano-dollar."""
    assert sum(row["cost_nusd"] for row in server.ledger()) == provider.billed_nusd


# ---- and whatever is killed, cut or emptied meanwhile ----------------------------------------------------------


def reckless(requests: Sequence[Asked], dice: random.Random) -> None:
    """Some of the clients leave: streams at any chunk, whole answers while they wait."""
    for asked in requests:
        if dice.random() < 0.3:
            asked.chunks = dice.randint(0, 8)
        elif dice.random() < 0.1:
            asked.patience_s = dice.uniform(0.002, 0.05)


def empty_redis(server: Server) -> None:
    with server.redis() as client:
        client.flushall()


def ride_out(server: Server, crowd: Crowd, misfortunes: Misfortunes, cases: Sequence[Case], upstream: Upstream) -> None:
    """The load, the blows, the recovery; then the books."""
    crowd.on_seen = misfortunes.on_seen
    seen = crowd.run()
    misfortunes.wait()
    server.wait_until_ready()
    server.booked(RECOVERY_S)

    allowed = {0, 200, 429, 502, 503}
    assert Counter((one.status, one.code) for one in seen if one.status not in allowed) == {}, server.log_tail()
    rows = {row["request_id"]: row for row in server.ledger()}
    served = [one.request_id for one in seen if one.status == 200]
    assert len(served) == len(set(served)) > len(seen) // 4
    assert sorted(set(served) - set(rows)) == [], "answered, and in no ledger"
    whole = [one.request_id for one in seen if one.whole]
    assert {rows[request_id]["status"] for request_id in whole} <= {"ok", "abandoned"}
    standing = [(case, case.budget, used(server, case, upstream)) for case in cases if case.budget is not None]
    refused = Counter(one.asked.case for one in seen if one.status == 429)
    print(table([(case.name, budget.limit, amount, refused[case.name]) for case, budget, amount in standing]))
    print(Counter(row["status"] for row in rows.values()))
    assert [case.name for case, budget, amount in standing if amount > budget.limit] == []
    assert_books_agree(server)


def test_no_budget_is_overspent_while_processes_die_and_clients_leave(
    module_upstream: Upstream, upstream: Upstream, restless: GreedyProvider, tmp_path: Path
) -> None:
    upstream.default = restless
    dice, cases = random.Random(SEED), all_cases()
    retries = {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 1}
    with serving(tmp_path, configuration(module_upstream.base_url, retries=retries)) as server:
        requests = set_up(server, cases, restless, CHAOTIC_COUNT)
        reckless(requests, dice)
        workers = Workers(server, dice)
        blows = {
            150: workers.kill_one,
            300: lambda: server.kill("redis"),
            450: workers.pause_one,
            600: workers.kill_one,
            750: lambda: server.kill("redis"),
            900: lambda: server.kill("writer"),
            1050: workers.kill_one,
        }
        ride_out(server, Crowd(server.url, requests, persistence=3_000), Misfortunes(blows), cases, upstream)
        late = {row["request_id"]: row["status"] for row in server.ledger() if row["abandoned_nusd"] > 0}
        assert workers.overtaken and workers.overtaken <= set(late), "a guess was replaced, and is not kept"
        assert "abandoned" not in late.values()


def test_no_budget_is_overspent_in_a_redis_that_forgets_everything(
    module_upstream: Upstream, upstream: Upstream, restless: GreedyProvider, tmp_path: Path
) -> None:
    upstream.default = restless
    # How many are at once is known to Redis alone: until all hold again nobody is let in, and so it holds, too.
    cases = all_cases()
    with serving(tmp_path, configuration(module_upstream.base_url)) as server:
        requests = set_up(server, cases, restless, CHAOTIC_COUNT)
        reckless(requests, random.Random(SEED))
        blows = {400: lambda: empty_redis(server), 900: lambda: empty_redis(server)}
        ride_out(server, Crowd(server.url, requests, persistence=6_000), Misfortunes(blows), cases, upstream)

"""What a client may try to get more than its budgets hold: none of it gets past."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from policies.budget import Budget
from router.errors import BudgetExhausted
from tests.support.asking import ask, error_code, question, request_id
from tests.support.budget_load import assert_books_agree
from tests.support.pipeline_bench import PipelineBench
from tests.support.server import Server, deployment, serving, wait_until
from tests.support.upstream import Received, Step, Upstream, answer, status, stream

pytestmark = pytest.mark.e2e

MOST_OUTPUT = 256
INPUT_NUSD, OUTPUT_NUSD = 500, 1_500  # a token of gpt-3.5-turbo
ROOMY_NUSD = 10**9

_teams = count(1)


def honest(request: Received) -> list[Step]:
    """Bills every byte of the prompt and every token that the request allows."""
    body = request.body
    most = max(body.get(name) or 0 for name in ("max_tokens", "max_completion_tokens")) or MOST_OUTPUT
    prompt_tokens = sum(len(str(message.get("content") or "")) for message in body["messages"])
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": most * (body.get("n") or 1)}
    return answer("yes", usage=usage)(request)


@pytest.fixture(scope="module")
def server(module_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url = module_upstream.base_url
    patience = {"connect_seconds": 1, "first_token_seconds": 2, "total_seconds": 2}
    config = {
        "deployments": [
            deployment("small", url, max_output_tokens=MOST_OUTPUT),
            deployment("gift", url, price="ernie-lite", max_output_tokens=MOST_OUTPUT),
            deployment("brief", url, max_output_tokens=MOST_OUTPUT, timeouts=patience),
        ],
        "aliases": {"charity": {"deployments": ["gift", "small"], "max_fallbacks": 1}},
        "baseline": "gpt-4",
        "retries": {"max_attempts": 1, "base_seconds": 0.01, "max_seconds": 1},
        "server": {"drain_seconds": 6, "workers": 1},
    }
    with serving(tmp_path_factory.mktemp("attacked"), config) as server:
        yield server
        server.booked()
        assert_books_agree(server)


@pytest.fixture
def team() -> str:
    """One that no other test knows."""
    return f"team-{next(_teams)}"


@pytest.fixture
def upstream(module_upstream: Upstream) -> Iterator[Upstream]:
    module_upstream.reset(honest)
    yield module_upstream
    module_upstream.reset()


def client_of(server: Server, key: dict[str, Any], **headers: str) -> httpx.Client:
    return httpx.Client(
        base_url=server.url, timeout=20.0, headers={"authorization": f"Bearer {key['secret']}", **headers}
    )


def refused(response: httpx.Response) -> bool:
    return response.status_code == 429 and error_code(response) == "insufficient_quota"


def spent(server: Server, budget: Budget) -> int:
    """Once everything is booked; nothing is held then."""
    server.booked()
    fields = server.fields(budget)
    assert fields.get("reserved", 0) == 0
    return fields.get("spent", 0)


# ---- who it is for ---------------------------------------------------------------------------------------------


def test_a_key_that_is_not_trusted_cannot_name_another_user(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    own = server.put_budget("team", team, ROOMY_NUSD)
    server.put_budget("user", f"{team}/vip", 0)
    with client_of(server, key) as http:
        response = ask(http, user="vip", max_tokens=10)
    assert response.status_code == 200
    assert server.record(request_id(response))["end_user"] == ""
    assert spent(server, own) > 0


def test_a_user_of_a_trusted_key_who_names_nobody_still_falls_under_the_team(
    server: Server, upstream: Upstream, team: str
) -> None:
    key = server.create_key(team, trusted=True)
    server.put_budget("team", team, 0)
    server.put_budget("user", f"{team}/*", ROOMY_NUSD)
    with client_of(server, key) as http:
        assert refused(ask(http))
        assert refused(ask(http, user=""))
        assert refused(ask(http, user="somebody new"))
        for no_user in (["vip"], {}, 7, True, "v" * 257, "vip\u0000", "vip\n"):
            response = ask(http, user=no_user)
            assert (response.status_code, response.json()["error"]["param"]) == (400, "user")
    assert upstream.received == []


@pytest.mark.parametrize("trusted", [False, True])
def test_tags_of_a_key_cannot_be_cast_off(server: Server, upstream: Upstream, team: str, trusted: bool) -> None:
    tag = f"{team}-batch"
    key = server.create_key(team, tags=[tag], trusted=trusted)
    server.put_budget("tag", tag, 0)
    for named in ("", "another", f"-{tag}", tag.upper()):
        with client_of(server, key, **{"x-parsimony-tags": named}) as http:
            response = ask(http)
            assert refused(response) or (trusted and response.status_code == 400), named
    assert upstream.received == []


def test_tags_of_a_key_that_is_not_trusted_come_from_the_key(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    server.put_budget("tag", f"{team}-other", 0)
    with client_of(server, key, **{"x-parsimony-tags": f"{team}-other"}) as http:
        response = ask(http, max_tokens=5)
    assert response.status_code == 200
    assert server.record(request_id(response))["tags"] == ""


def test_headers_that_name_a_team_or_an_organization_name_none(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    server.create_key(f"{team}-rich")
    server.put_budget("team", team, 0)
    names = ("x-team", "x-parsimony-team", "openai-organization", "openai-project", "x-parsimony-user", "x-end-user")
    with client_of(server, key, **dict.fromkeys(names, f"{team}-rich")) as http:
        assert refused(ask(http, team=f"{team}-rich", team_id=f"{team}-rich", metadata={"team": f"{team}-rich"}))
    sdk = openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=key["secret"], max_retries=0, organization=f"{team}-rich", project="x"
    )
    with pytest.raises(openai.RateLimitError) as error:
        sdk.chat.completions.create(**question())
    assert error.value.code == "insufficient_quota"
    assert upstream.received == []


def test_many_keys_of_one_team_share_its_budget(server: Server, upstream: Upstream, team: str) -> None:
    keys = [server.create_key(team) for _ in range(12)]
    budget = server.put_budget("team", team, 3_000_000)
    with ThreadPoolExecutor(12) as pool:

        def ask_on(key: dict[str, Any]) -> list[int]:
            with client_of(server, key) as http:
                return [ask(http, max_tokens=100).status_code for _ in range(8)]

        statuses = [code for codes in pool.map(ask_on, keys) for code in codes]
    assert set(statuses) == {200, 429}
    assert 0.9 * budget.limit <= spent(server, budget) <= budget.limit


# ---- how long, how many ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [-1, 0, -(2**63), 2**31, 2**64, 10**30, 0.5, 1e3, True, False, "1", [1], {"a": 1}])
def test_limits_that_are_none_are_refused(
    server: Server, upstream: Upstream, team: str, field: str, value: Any
) -> None:
    with client_of(server, server.create_key(team)) as http:
        response = ask(http, **{field: value})
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)
    assert upstream.received == []


def test_a_huge_limit_is_more_than_a_budget_pays_for(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    budget = server.put_budget("team", team, 2_000_000)
    with client_of(server, key) as http:
        assert refused(ask(http, max_tokens=15_000))
        assert ask(http, max_tokens=2**31 - 1).status_code == 400  # longer than the model's window
    assert upstream.received == []
    assert spent(server, budget) == 0


def test_of_two_limits_both_must_say_the_same(server: Server, upstream: Upstream, team: str) -> None:
    with client_of(server, server.create_key(team)) as http:
        response = ask(http, max_tokens=1, max_completion_tokens=4_000)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "max_completion_tokens")
        assert ask(http, max_tokens=7, max_completion_tokens=7).status_code == 200
        assert ask(http, max_tokens=None, max_completion_tokens=7).status_code == 200
    assert len(upstream.received) == 2


def test_of_a_field_that_comes_twice_one_is_held_and_sent(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    budget = server.put_budget("team", team, 2_000_000)
    messages = json.dumps([{"role": "user", "content": "Twice over"}])
    raw = f'{{"model": "small", "messages": {messages}, "max_tokens": 1, "max_tokens": 200, "n": 128, "n": 1}}'
    with client_of(server, key) as http:
        assert http.post("/v1/chat/completions", content=raw).status_code == 200
    (call,) = upstream.received
    assert call.raw.count(b'"max_tokens"') == 1
    assert call.raw.count(b'"n"') == 1
    charged = spent(server, budget)
    (row,) = [row for row in server.ledger() if row["team_id"] == team]
    assert 200 * OUTPUT_NUSD < charged == row["cost_nusd"] <= row["reserved_nusd"]


@pytest.mark.parametrize("count_", [129, 10**9, -1, 0, 1.5, True, "2"])
def test_a_number_of_choices_that_is_none_is_refused(
    server: Server, upstream: Upstream, team: str, count_: Any
) -> None:
    with client_of(server, server.create_key(team)) as http:
        response = ask(http, n=count_)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "n")


def test_all_of_128_choices_are_held(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    budget = server.put_budget("team", team, 128 * 100 * OUTPUT_NUSD)
    with client_of(server, key) as http:
        assert refused(ask(http, n=128, max_tokens=100))
        assert upstream.received == []
        assert ask(http, n=128, max_tokens=90).status_code == 200
    assert 128 * 90 * OUTPUT_NUSD < spent(server, budget) <= budget.limit


def test_choices_without_a_limit_are_capped_together(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    budget = server.put_budget("team", team, 2 * 128 * MOST_OUTPUT * OUTPUT_NUSD)
    with client_of(server, key) as http:
        statuses = [ask(http, n=128).status_code for _ in range(4)]
    assert statuses == [200, 429, 429, 429]  # twice the answers would fit, the prompts beside them do not
    assert 0 < spent(server, budget) <= budget.limit


OUT_OF_BOUNDS: dict[str, Any] = {
    "n_predict": 4_000,
    "num_predict": 4_000,
    "max_new_tokens": 4_000,
    "max_output_tokens": 4_000,
    "max_gen_len": 4_000,
    "max_length": 4_000,
    "best_of": 20,
    "web_search_options": {"search_context_size": "high"},
    "enable_search": True,
    "search_parameters": {"mode": "on"},
    "plugins": [{"id": "web"}],
    "models": ["openai/o1-pro"],
    "fallbacks": ["openai/o1-pro"],
    "enable_thinking": True,
    "thinking_budget": 32_000,
    "chat_template": "{% for i in range(100000) %}again {% endfor %}",
    "mm_processor_kwargs": {"num_crops": 100},
    "media_io_kwargs": {"video": {"num_frames": 1000}},
    "cached_content": "cachedContents/a-million-tokens",
    "audio": {"voice": "alloy", "format": "wav"},
    "extra_body": {"max_tokens": 4_000},
    "modalities": ["text", "audio"],
}


@pytest.mark.parametrize("field", OUT_OF_BOUNDS)
def test_a_field_that_could_cost_more_than_is_held_is_refused_by_name(
    server: Server, upstream: Upstream, team: str, field: str
) -> None:
    with client_of(server, server.create_key(team)) as http:
        response = ask(http, max_tokens=1, **{field: OUT_OF_BOUNDS[field]})
        assert (response.status_code, response.json()["error"]["param"]) == (400, field)
        assert f"'{field}'" in response.json()["error"]["message"]
        assert upstream.received == []
        assert ask(http, max_tokens=1, **{field: None}).status_code == 200  # what SDKs send for "not given"


@pytest.mark.parametrize("kind", ["web_search", "file_search", "code_interpreter", "builtin_function", 7])
def test_tools_that_run_at_the_provider_are_refused(server: Server, upstream: Upstream, team: str, kind: Any) -> None:
    with client_of(server, server.create_key(team)) as http:
        response = ask(http, tools=[{"type": kind, "function": {"name": "$web_search"}}])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools[0].type")
    assert upstream.received == []


@pytest.mark.parametrize("tier", ["priority", "scale", "turbo"])
def test_a_dearer_service_tier_is_not_asked_for(server: Server, upstream: Upstream, team: str, tier: str) -> None:
    with client_of(server, server.create_key(team)) as http:
        assert ask(http, service_tier=tier, max_tokens=1).status_code == 200
    (call,) = upstream.received
    assert "service_tier" not in call.body


def test_what_is_predicted_is_held_at_the_price_of_answers(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    server.put_budget("team", team, 2_000_000)
    prediction = {"type": "content", "content": "x" * 2_000}
    with client_of(server, key) as http:
        assert refused(ask(http, prediction=prediction, max_tokens=1))
        assert ask(http, text="x" * 2_000, max_tokens=1).status_code == 200
    assert len(upstream.received) == 1


# ---- what it costs ---------------------------------------------------------------------------------------------


def test_a_model_that_costs_nothing_leads_to_no_paid_one_that_the_budget_does_not_carry(
    server: Server, upstream: Upstream, team: str
) -> None:
    key = server.create_key(team)
    server.put_budget("team", team, 1_000)
    upstream.on("gift", status(500))
    with client_of(server, key) as http:
        response = ask(http, model="charity", max_tokens=50)
        assert response.status_code == 502
    assert [call.model for call in upstream.received] == ["gift"]


def test_the_paid_fallback_of_a_model_that_costs_nothing_is_held_and_charged(
    server: Server, upstream: Upstream, team: str
) -> None:
    key = server.create_key(team)
    budget = server.put_budget("team", team, 1_500_000)
    upstream.on("gift", status(500))
    with client_of(server, key) as http, ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(lambda _: ask(http, model="charity", max_tokens=200).status_code, range(48)))
    assert 200 in statuses
    assert 0 < spent(server, budget) <= budget.limit


def test_a_spent_budget_gives_nothing_away(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    server.put_budget("team", team, 0)
    with client_of(server, key) as http:
        assert refused(ask(http, model="gift"))
    assert upstream.received == []


def test_a_deployment_without_a_known_price_does_not_start(tmp_path: Path, module_upstream: Upstream) -> None:
    config = {
        "deployments": [deployment("mystery", module_upstream.base_url, price="nobody-knows-what-it-costs")],
        "aliases": {"auto": {}},
        "baseline": "gpt-4",
    }
    with serving(tmp_path, config, start=False) as server:
        server.spawn()
        assert server.wait(30) != 0
        told = server.log() + server.stdout()
    assert "deployments.0.price" in told
    assert "nobody-knows-what-it-costs" in told


# ---- when ------------------------------------------------------------------------------------------------------


def test_a_stream_of_a_key_that_is_replaced_meanwhile_counts_for_its_successor(
    server: Server, upstream: Upstream, team: str
) -> None:
    key = server.create_key(team)
    server.put_budget("key", key["id"], ROOMY_NUSD)
    upstream.on("small", stream(["a", "b", "c"], pause_s=0.3, usage={"prompt_tokens": 10, "completion_tokens": 100}))
    asked = question(stream=True, max_tokens=100)
    with client_of(server, key) as http, http.stream("POST", "/v1/chat/completions", json=asked) as response:
        pieces = response.iter_bytes()
        next(pieces)
        replaced = server.admin("POST", f"/keys/{key['id']}/rotate", {"grace_seconds": 0})
        assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
    (budget,) = [b for b in server.stores().directory.list_budgets(team) if b.subject_kind == "key"]
    assert budget.subject_id == replaced["key"]["id"]
    assert spent(server, budget) == 10 * INPUT_NUSD + 100 * OUTPUT_NUSD
    with client_of(server, key) as http:
        wait_until("the old key is refused", lambda: ask(http).status_code == 401, 10)


async def test_a_request_at_the_edge_of_a_window_counts_in_the_one_it_began_in() -> None:
    hourly = Budget(id="hourly", subject_kind="team", subject_id="team-1", limit=2_000, window="hour")
    bench = PipelineBench(budgets=(hourly,))
    bench.hand.now_s = 1_793_500_000 // 3600 * 3600 + 3599.9
    first = await bench.ask("One", max_tokens=50)
    assert first.status == 200
    (before,) = bench.store.counters.values()
    used = before.spent
    assert used > 0
    # Every second of the same hour sees what was spent; the next hour begins with nothing.
    bench.hand.now_s += 0.2
    second = await bench.ask("Two", max_tokens=50)
    assert second.status == 200
    assert len(bench.store.counters) == 2
    assert next(iter(bench.store.counters.values())).spent == used
    for number in range(200):
        try:
            await bench.ask(f"And {number}", max_tokens=50)
        except BudgetExhausted:
            break
    else:
        pytest.fail("the hour never ends")
    assert all(counter.spent <= hourly.limit for counter in bench.store.counters.values())
    bench.check_books()


async def test_a_rolling_window_holds_across_every_edge() -> None:
    rolling = Budget(id="rolling", subject_kind="team", subject_id="team-1", limit=2_000, window="rolling:60m")
    bench = PipelineBench(budgets=(rolling,))
    served: list[tuple[float, int]] = []
    for number in range(600):
        bench.hand.now_s += 17.0
        try:
            await bench.ask(f"Number {number}", max_tokens=50)
        except BudgetExhausted:
            continue
        served.append((bench.hand.now_s, bench.records()[-1]["cost_nusd"]))
    hours = [sum(cost for at, cost in served if first <= at < first + 3600) for first, _ in served]
    assert max(hours) <= rolling.limit
    assert len(served) < 600
    assert sum(cost for _, cost in served) > rolling.limit  # what left the window made room


# ---- how many at once ------------------------------------------------------------------------------------------


def test_requests_down_one_pipe_are_counted_one_by_one(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    budget = server.put_budget("team", team, 5, unit="requests", action="reject")
    bodies = [json.dumps(question(max_tokens=1)).encode() for _ in range(20)]
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key['secret']}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(b"".join(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies))
        received = b""
        while received.count(b"HTTP/1.1 ") < len(bodies):
            data = connection.recv(65_536)
            assert data, received[-500:]
            received += data
    assert received.count(b"HTTP/1.1 200") == 5
    assert received.count(b"HTTP/1.1 429") == 15
    assert len(upstream.received) == 5
    assert spent(server, budget) == 5


def test_a_stampede_of_the_same_question_is_paid_once(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    budget = server.put_budget("team", team, ROOMY_NUSD)
    upstream.on("small", answer("yes", delay_s=0.3, usage={"prompt_tokens": 10, "completion_tokens": 20}))
    asked = question(max_tokens=20)
    with ThreadPoolExecutor(64) as pool:

        def ask_it(_: int) -> int:
            with client_of(server, key) as http:
                return http.post("/v1/chat/completions", json=asked).status_code

        assert set(pool.map(ask_it, range(64))) == {200}
    assert len(upstream.received) == 1
    assert spent(server, budget) == 10 * INPUT_NUSD + 20 * OUTPUT_NUSD


def test_a_stream_that_nobody_reads_ends_and_is_charged(server: Server, upstream: Upstream, team: str) -> None:
    key = server.create_key(team)
    budget = server.put_budget("team", team, ROOMY_NUSD)
    upstream.on("brief", stream(["word " * 20_000] * 200, usage=None))
    body = json.dumps(question("brief", stream=True)).encode()
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key['secret']}\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        upstream.wait_for_call()
        wait_until("it is given up", lambda: [r for r in server.ledger() if r["team_id"] == team] or None, 20)
    (row,) = [row for row in server.ledger() if row["team_id"] == team]
    assert row["status"] in ("cancelled", "error")
    assert row["output_tokens"] > 0
    assert spent(server, budget) == row["cost_nusd"]


# ---- who may change them ---------------------------------------------------------------------------------------


def admin_call(server: Server, key: dict[str, Any], method: str, path: str, body: Any = None) -> int:
    with client_of(server, key) as http:
        return http.request(method, f"/admin/v1{path}", json=body).status_code


@pytest.mark.parametrize("role", ["manager", "viewer", "application"])
def test_nobody_but_an_administrator_lifts_a_teams_limit(server: Server, team: str, role: str) -> None:
    key = server.create_key(team, role=role)
    budget = server.put_budget("team", team, 1_000_000)
    path = f"/budgets/{budget.id}"
    terms = {"subject_kind": "team", "subject_id": team, "limit_usd": "1000"}
    organization = {"subject_kind": "organization", "limit_usd": "1000"}
    assert admin_call(server, key, "POST", "/budgets", terms) == 403
    assert admin_call(server, key, "PUT", path, {"limit_usd": "1000"}) == 403
    assert admin_call(server, key, "PUT", path, {"action": "warn"}) == 403
    assert admin_call(server, key, "DELETE", path) == 403
    assert admin_call(server, key, "PUT", f"/teams/{team}/budget", {"limit_usd": "1000"}) == 403
    assert admin_call(server, key, "POST", "/budgets", organization) == 403
    assert admin_call(server, key, "POST", "/keys", {"team_id": team, "name": "n", "role": "admin"}) == 403
    assert admin_call(server, key, "POST", "/keys", {"team_id": team, "name": "n", "trusted": True}) == 403
    (left,) = server.stores().directory.list_budgets(team)
    assert left == budget


def test_a_viewer_changes_nothing(server: Server, team: str) -> None:
    viewer = server.create_key(team, role="viewer")
    other = server.create_key(team)
    before = server.stores().directory.list_budgets(), server.stores().directory.list_keys()
    own = {"subject_kind": "key", "subject_id": viewer["id"], "limit_usd": "1000"}
    assert admin_call(server, viewer, "GET", "/budgets") == 200
    assert admin_call(server, viewer, "POST", "/budgets", own) == 403
    assert admin_call(server, viewer, "POST", "/keys", {"team_id": team, "name": "n"}) == 403
    assert admin_call(server, viewer, "POST", f"/keys/{other['id']}/rotate") == 403
    assert admin_call(server, viewer, "POST", f"/keys/{other['id']}/revoke") == 403
    assert admin_call(server, viewer, "PUT", f"/keys/{other['id']}/budget", {"limit_usd": "1"}) == 403
    assert admin_call(server, viewer, "POST", "/projects", {"team_id": team, "id": f"{team}-p"}) == 403
    assert (server.stores().directory.list_budgets(), server.stores().directory.list_keys()) == before

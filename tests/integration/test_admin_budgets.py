"""The admin API's budgets against real stores: set, seen, foretold, removed, and who changed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from router.api import admin_examples as examples
from router.clock import SYSTEM_CLOCK
from router.services import AdminServices
from tests.support.admin_api import client_of, open_stores
from tests.support.administration import write_config
from tests.support.budgets_declared import declare
from tests.support.spend import spend_record

USD = 10**9


@pytest.fixture
def services(services: AdminServices) -> AdminServices:
    services.directory.create_team("support")
    services.directory.create_project("support", "chat")
    return services


@pytest.fixture
def client(services: AdminServices) -> TestClient:
    return client_of(services)


def now_ms() -> int:
    return int(SYSTEM_CLOCK.wall() * 1000)


def team_budget(**changes: Any) -> dict[str, Any]:
    return {"subject_kind": "team", "subject_id": "support", "limit_usd": "500", **changes}


def test_a_budget_is_set_with_every_term(client: TestClient) -> None:
    made = client.post(
        "/budgets",
        json=team_budget(
            window="week", timezone="Asia/Shanghai", model="large", action="downgrade", downgrade_from="66.6%",
            downgrade_to="moderate", alert_at=[0.5, "90%"], paced=True, when_unavailable="serve",
        ),
    )  # fmt: skip
    assert made.status_code == 201, made.text
    assert made.json() == {
        "id": "team:support:week:model=large", "subject_kind": "team", "subject_id": "support", "unit": "usd",
        "window": "week", "timezone": "Asia/Shanghai", "model": "large", "tier": None, "limit_usd": "500.00",
        "limit_nusd": 500 * USD, "action": "downgrade", "downgrade_from": "66.6%", "downgrade_to": "moderate",
        "alert_at": ["50%", "90%"], "paced": True, "when_unavailable": "serve", "source": "admin",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "id_", "limit"),
    [
        ({"subject_kind": "organization", "limit_usd": 5}, "organization:default:month", {"limit_nusd": 5 * USD}),
        (
            {"subject_kind": "project", "subject_id": "chat", "unit": "tokens", "limit": 9, "tier": "complex"},
            "project:chat:month:tokens:tier=complex",
            {"limit": 9},
        ),
        (
            {"subject_kind": "user", "subject_id": "support/*", "unit": "requests", "limit": 60, "window": "minute"},
            "user:support/*:minute:requests",
            {"limit": 60},
        ),
        (
            {"subject_kind": "tag", "subject_id": "batch", "unit": "parallel", "limit": 2},
            "tag:batch:now:parallel",
            {"limit": 2},
        ),
    ],
)
def test_whatever_can_be_limited_is(client: TestClient, body: dict[str, Any], id_: str, limit: dict[str, int]) -> None:
    made = client.post("/budgets", json=body).json()
    assert (made["id"], {name: made[name] for name in limit}) == (id_, limit)
    shown = client.get(f"/budgets/{quote(id_)}").json()
    assert {name: shown[name] for name in made} == made


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"limit_usd": 1.5}, 422, ""),
        ({"limit_usd": None}, 400, "limit_usd is missing"),
        ({"limit_usd": "much"}, 400, "'much' is not an amount"),
        ({"limit": 5}, 400, "limit is not for the unit 'usd'; write limit_usd"),
        ({"unit": "tokens"}, 400, "limit_usd is not for the unit 'tokens'; write limit"),
        ({"unit": "tokens", "limit_usd": None, "limit": -1}, 400, "-1 is not a number of tokens"),
        ({"window": "fortnight"}, 400, "window is 'fortnight'; allowed are hour"),
        ({"window": "minute"}, 400, "a rate limit counts tokens or requests"),
        ({"timezone": "Mars"}, 400, "'Mars' is no time zone"),
        ({"model": "gpt-5"}, 400, "there is no deployment 'gpt-5'; configured are 'large', 'small'"),
        ({"downgrade_from": "half"}, 400, "'half' is not a share"),
        ({"alert_at": ["0%"]}, 400, "an alert's share is 0"),
        ({"action": "pray"}, 422, ""),
        ({"colour": "red"}, 422, ""),
        ({"subject_id": "sales"}, 404, "there is no team 'sales'"),
        ({"subject_kind": "project", "subject_id": "x"}, 404, "there is no project 'x'"),
        ({"subject_kind": "user", "subject_id": "ann"}, 400, "a user's budget names"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    client: TestClient, services: AdminServices, changes: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post("/budgets", json=team_budget(**changes))
    assert answer.status_code == status, answer.text
    assert words in str(answer.json())
    assert services.directory.list_budgets() == ()


def test_what_is_left_out_stays_as_it_is(client: TestClient) -> None:
    made = client.post("/budgets", json=team_budget(action="warn", paced=True, alert_at=["75%"])).json()
    raised = client.put(f"/budgets/{made['id']}", json={"limit_usd": "600"}).json()
    assert raised == made | {"limit_usd": "600.00", "limit_nusd": 600 * USD}
    again = client.post("/budgets", json=team_budget(limit_usd="700", paced=False)).json()
    assert again == made | {"limit_usd": "700.00", "limit_nusd": 700 * USD, "paced": False}
    monthly = client.put("/teams/support/budget", json={"limit_usd": "800"}).json()["budget"]
    assert (monthly["action"], monthly["limit_usd"]) == ("warn", "800.00")


def test_a_budget_is_removed_once(client: TestClient) -> None:
    made = client.post("/budgets", json=team_budget()).json()
    assert client.delete("/budgets/team:support:month").json() == made
    for answer in (client.delete("/budgets/team:support:month"), client.get("/budgets/team:support:month")):
        assert (answer.status_code, answer.json()["code"]) == (404, "record_not_found")


def test_what_the_configuration_declares_cannot_be_changed_here(client: TestClient, services: AdminServices) -> None:
    declare(services, {"team": "support", "limit_usd": "5"})
    for answer in (
        client.put("/budgets/team:support:month", json={"limit_usd": "6"}),
        client.post("/budgets", json=team_budget()),
        client.put("/teams/support/budget", json={"limit_usd": "6"}),
        client.put("/teams/support/budget", json={"limit_usd": None}),
        client.delete("/budgets/team:support:month"),
    ):
        assert (answer.status_code, "is declared in the configuration" in answer.json()["message"]) == (400, True)
    assert client.get("/budgets/team:support:month").json()["limit_usd"] == "5.00"


def test_where_a_budget_stands_and_when_it_is_used_up(client: TestClient, services: AdminServices) -> None:
    services.ledger.append([spend_record("a", started_at_ms=now_ms() - 1, cost_nusd=90 * USD)])
    client.post("/budgets", json=team_budget(limit_usd="100", window="lifetime"))
    client.post("/budgets", json=team_budget(limit_usd="80", window="year"))
    client.post("/budgets", json=team_budget(limit_usd="1000000", window="lifetime", model="large"))
    by_id = {budget["id"]: budget for budget in client.get("/budgets").json()["budgets"]}
    lifetime, year, other = (by_id[f"team:support:{rest}"] for rest in ("lifetime", "year", "lifetime:model=large"))
    assert (lifetime["spent_usd"], lifetime["available_nusd"], lifetime["share"]) == ("90.00", 10 * USD, 0.9)
    # 90 in 28 days: the 10 that remain last 28 * 10 / 90 days, beginning now.
    assert lifetime["window_ends_at"] is None
    assert lifetime["exhausted_at"] > year["exhausted_at"]
    assert (year["available_usd"], year["share"]) == ("0.00", 1.125)
    assert year["window_ends_at"].endswith("-01-01T00:00:00.000+00:00")
    assert (other["spent_nusd"], other["exhausted_at"]) == (0, None)


def test_the_answers_have_the_keys_of_their_examples(client: TestClient, services: AdminServices) -> None:
    services.ledger.append([spend_record("a", started_at_ms=now_ms() - 1, end_user="ann", project_id="chat")])
    client.post("/budgets", json=team_budget())
    users = {"subject_kind": "user", "subject_id": "support/*", "unit": "requests", "limit": 9, "window": "day"}
    client.post("/budgets", json=users)
    services.directory.create_key("support", "chat")
    pairs = [
        ("/budgets/team:support:month", examples.BUDGET),
        ("/budgets/user:support/*:day:requests/users", examples.USERS),
        ("/budgets/team:support:month/history", examples.HISTORY),
        ("/spenders", examples.SPENDERS),
        ("/audit", examples.AUDIT),
        ("/teams", examples.TEAMS),
        ("/teams/support", examples.TEAM_DETAIL),
        ("/projects", examples.PROJECTS),
        ("/keys", examples.KEYS),
    ]
    for path, example in pairs:
        assert shape(client.get(path).json()) == shape(example), path


def shape(value: Any) -> Any:
    """The keys, all the way down to what a list's first entry has; of what changed in an entry, nothing."""
    if isinstance(value, dict):
        return {key: None if key in ("before", "after") else shape(inner) for key, inner in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def test_budgets_are_listed_by_team_and_kind(client: TestClient, services: AdminServices) -> None:
    services.directory.create_team("sales")
    client.post("/budgets", json=team_budget())
    client.post("/budgets", json=team_budget(subject_id="sales"))
    client.post("/budgets", json=team_budget(subject_kind="project", subject_id="chat"))
    client.post("/budgets", json=team_budget(subject_kind="organization", subject_id="default"))

    def listed(**query: str) -> list[str]:
        return [budget["id"] for budget in client.get("/budgets", params=query).json()["budgets"]]

    assert listed(team="support") == ["team:support:month", "project:chat:month"]
    assert listed(subject_kind="team") == ["team:sales:month", "team:support:month"]
    assert listed(subject_kind="team", team="sales") == ["team:sales:month"]
    assert len(listed()) == 4
    assert client.get("/budgets", params={"team": "nobody"}).status_code == 404


def test_of_every_user_the_heaviest_is_shown_and_all_are_listed(client: TestClient, services: AdminServices) -> None:
    records = [
        spend_record(f"{user}{n}", started_at_ms=now_ms() - 1, end_user=user, cost_nusd=USD)
        for user, count in (("ann", 1), ("研究", 3), ("bob", 2))
        for n in range(count)
    ]
    services.ledger.append(records)
    client.post("/budgets", json={"subject_kind": "user", "subject_id": "support/*", "limit_usd": 4})
    shown = client.get("/budgets/user:support/*:month").json()
    assert (shown["end_user"], shown["spent_usd"], shown["available_usd"]) == ("研究", "3.00", "1.00")
    users = client.get("/budgets/user:support/*:month/users").json()["users"]
    assert [(user["end_user"], user["spent_nusd"]) for user in users] == [
        ("研究", 3 * USD), ("bob", 2 * USD), ("ann", USD)
    ]  # fmt: skip
    client.post("/budgets", json=team_budget())
    other = client.get("/budgets/team:support:month/users")
    assert (other.status_code, "is not one of every user" in other.json()["message"]) == (400, True)


def test_history_tells_of_windows_gone_by_and_of_every_change(client: TestClient, services: AdminServices) -> None:
    at_ms, hour_ms = now_ms(), 3_600_000
    services.ledger.append(
        [
            spend_record("a", started_at_ms=at_ms, cost_nusd=1),
            spend_record("b", started_at_ms=at_ms - hour_ms, cost_nusd=2),
            spend_record("c", started_at_ms=at_ms - 9 * hour_ms, cost_nusd=4),
        ]
    )
    client.post("/budgets", json=team_budget(window="hour"))
    client.put("/budgets/team:support:hour", json={"limit_usd": "600"})
    client.post("/budgets", json=team_budget(window="hour", unit="tokens", limit_usd=None, limit=5))
    told = client.get("/budgets/team:support:hour/history", params={"windows": 4}).json()
    # A new hour may have begun just now.
    assert [window["used_nusd"] for window in told["windows"] if window["used_nusd"]] == [1, 2]
    assert len(told["windows"]) == 4
    assert [window["to"] for window in told["windows"][1:]] == [window["from"] for window in told["windows"][:-1]]
    assert [(entry["action"], entry["actor"]) for entry in told["audit"]] == [
        ("budget.change", "key:key_admin"), ("budget.create", "key:key_admin")
    ]  # fmt: skip
    assert told["audit"][0]["before"]["limit"] == 500 * USD
    assert client.get("/budgets/team:support:hour/history", params={"windows": 999}).status_code == 422


def test_who_spends_fastest(client: TestClient, services: AdminServices) -> None:
    at_ms, day_ms = now_ms() - 1, 86_400_000
    services.ledger.append(
        [
            spend_record("a", started_at_ms=at_ms, cost_nusd=48 * USD, end_user="ann", project_id="chat"),
            spend_record("b", started_at_ms=at_ms - day_ms, cost_nusd=24 * USD, end_user="ann"),
            spend_record("c", started_at_ms=at_ms, cost_nusd=72 * USD, team_id="sales", deployment="large"),
            spend_record("d", started_at_ms=at_ms - 5 * day_ms, cost_nusd=USD, team_id="idle"),
        ]
    )

    def rates(**query: str) -> list[tuple[Any, ...]]:
        found = client.get("/spenders", params=query).json()["spenders"]
        return [(s["name"], s["nusd_per_hour"], s["before_nusd_per_hour"]) for s in found]

    assert rates(window="day") == [("sales", 3 * USD, 0), ("support", 2 * USD, USD)]
    assert rates(window="day", team="support", by="user") == [("support/ann", 2 * USD, USD)]
    assert rates(window="day", by="project") == [("chat", 2 * USD, 0)]
    assert [name for name, *_ in rates(window="day", by="model")] == ["large", "mistral-7b"]
    # Equal amounts stand in the order of their names.
    assert [name for name, *_ in rates(window="week")] == ["sales", "support", "idle"]
    assert client.get("/spenders", params={"by": "weather"}).status_code == 422


def test_the_log_of_changes_is_read_a_page_at_a_time(client: TestClient) -> None:
    client.post("/teams", json={"id": "sales"})
    client.post("/budgets", json=team_budget())
    everything = client.get("/audit").json()["entries"]
    assert everything[0]["target"] == "team:support:month"
    assert client.get("/audit", params={"target": "team:sales"}).json()["entries"] == everything[1:2]
    assert client.get("/audit", params={"limit": 1}).json()["entries"] == everything[:1]
    assert client.get("/audit", params={"before": everything[0]["id"]}).json()["entries"] == everything[1:]
    assert client.get("/audit", params={"before": everything[-1]["id"]}).json() == {"entries": []}
    assert client.get("/audit", params={"before": 2**63}).status_code == 422


def test_projects(client: TestClient, services: AdminServices) -> None:
    made = client.post("/projects", json={"team_id": "support", "id": "batch", "name": "夜间"})
    assert (made.status_code, made.json()["name"]) == (201, "夜间")
    assert [project["id"] for project in client.get("/projects").json()["projects"]] == ["batch", "chat"]
    assert client.post("/projects", json={"team_id": "sales", "id": "x"}).status_code == 404
    key = client.post(
        "/keys", json={"team_id": "support", "name": "k", "project_id": "batch", "trusted": True, "tags": ["b", "a"]}
    ).json()["key"]
    assert (key["project_id"], key["trusted"], key["tags"]) == ("batch", True, ["a", "b"])


def test_without_redis_budgets_are_set_all_the_same(tmp_path: Path) -> None:
    with open_stores(write_config(tmp_path)) as services:
        services.directory.create_team("support")
        client = client_of(services)
        assert client.post("/budgets", json=team_budget()).status_code == 201
        answer = client.get("/budgets")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")

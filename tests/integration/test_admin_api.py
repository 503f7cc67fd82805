"""The admin API against real stores: what it answers, what it changes, whom it lets in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from policies.repricing import booked
from router.clock import SYSTEM_CLOCK
from router.services import AdminServices
from router.stores.administration import set_budget
from router.stores.base import secret_sha256
from tests.support.admin_api import client_of, open_stores
from tests.support.administration import PRICES, write_config
from tests.support.spend import priced_record, spend_record


@pytest.fixture
def client(services: AdminServices) -> TestClient:
    return client_of(services)


ROUTES = [
    ("GET", "/teams"), ("POST", "/teams"), ("GET", "/teams/support"), ("PUT", "/teams/support/budget"),
    ("GET", "/keys"), ("POST", "/keys"), ("POST", "/keys/k/revoke"), ("POST", "/keys/k/rotate"),
    ("PUT", "/keys/k/budget"), ("GET", "/reports/savings"), ("GET", "/requests/r"),
    ("GET", "/projects"), ("POST", "/projects"), ("GET", "/budgets"), ("POST", "/budgets"), ("GET", "/budgets/b"),
    ("PUT", "/budgets/b"), ("DELETE", "/budgets/b"), ("GET", "/budgets/b/history"), ("GET", "/budgets/b/users"),
    ("GET", "/spenders"), ("GET", "/audit"), ("GET", "/reports/chargeback"),
    ("GET", "/reports/utilization"), ("GET", "/reports/break-even"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_refuses_an_applications_key(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path, headers={"authorization": "Bearer other"})
    assert (answer.status_code, answer.json()["code"]) == (403, "admin_required")
    assert answer.json()["message"].startswith("This needs a key of role admin")


def test_the_routes_above_are_all_there_are(services: AdminServices) -> None:
    paths = client_of(services).app.openapi()["paths"]  # type: ignore[attr-defined]
    assert sum(len(methods) for methods in paths.values()) == len(ROUTES)


def test_every_route_is_documented_with_a_summary_and_an_example(services: AdminServices) -> None:
    paths = client_of(services).app.openapi()["paths"]  # type: ignore[attr-defined]
    for path, methods in paths.items():
        for method, operation in methods.items():
            successes = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            examples = [answer["content"]["application/json"].get("example") for answer in successes]
            assert operation["summary"], (method, path)
            assert len(examples) == 1, (method, path)
            assert examples[0], (method, path)
            assert "of role admin" in operation["responses"]["403"]["description"], (method, path)
            assert operation["security"] == [{"HTTPBearer": []}], (method, path)


def test_teams(client: TestClient) -> None:
    made = client.post("/teams", json={"id": "support", "name": "客服"})
    assert (made.status_code, made.json()["name"]) == (201, "客服")
    assert client.get("/teams").json() == {"teams": [made.json()]}
    again = client.post("/teams", json={"id": "support"})
    assert (again.status_code, again.json()["message"]) == (400, "there is a team 'support' already")
    assert client.get("/teams/sales").status_code == 404
    assert client.post("/teams", json={"id": "x", "colour": "red"}).status_code == 422


def test_keys_from_birth_to_end(client: TestClient, services: AdminServices) -> None:
    services.directory.create_team("support")
    made = client.post("/keys", json={"team_id": "support", "name": "chat", "allowed_models": ["auto"]})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    principal = services.directory.principal_by_hash(secret_sha256(made.json()["secret"]))
    assert principal is not None
    assert principal.allowed_models == frozenset({"auto"})
    key_id = made.json()["key"]["id"]
    rotated = client.post(f"/keys/{key_id}/rotate", json={"grace_seconds": 60})
    assert (rotated.status_code, rotated.headers["cache-control"]) == (201, "no-store")
    new_id = rotated.json()["key"]["id"]
    assert client.post(f"/keys/{new_id}/rotate").status_code == 201
    assert client.post(f"/keys/{key_id}/revoke").json()["state"] == "replaced"
    listed = client.get("/keys", params={"team": "support"})
    assert [key["state"] for key in listed.json()["keys"]] == ["replaced", "replaced", "active"]
    assert made.json()["secret"] not in listed.text
    assert client.post("/keys/key_x/revoke").status_code == 404


@pytest.mark.parametrize(
    ("models", "status"),
    [(["auto", "large"], 201), (["auto", "gpt-5", "mistral-7b"], 400), ([], 400)],
)
def test_a_key_is_for_models_that_there_are(
    client: TestClient, services: AdminServices, models: list[str], status: int
) -> None:
    services.directory.create_team("support")
    made = client.post("/keys", json={"team_id": "support", "name": "chat", "allowed_models": models})
    assert made.status_code == status
    if len(models) > 2:
        expected = "there is no model 'gpt-5', 'mistral-7b'; configured are: auto, large, small"
        assert (made.json()["message"], services.directory.list_keys()) == (expected, ())


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_body_is_read_for_who_may_not(client: TestClient, method: str, path: str) -> None:
    other = {"authorization": "Bearer other", "content-type": "application/json"}
    answer = client.request(method, path, headers=other, content=b"{")
    assert answer.status_code == 403


def test_the_monthly_budgets_of_teams_and_keys(client: TestClient, services: AdminServices) -> None:
    services.directory.create_team("support")
    now_ms = int(SYSTEM_CLOCK.wall() * 1000)
    services.ledger.append([spend_record("a", started_at_ms=now_ms, cost_nusd=10**9)])
    budget = client.put("/teams/support/budget", json={"limit_usd": "12.5"}).json()["budget"]
    assert (budget["limit_usd"], budget["timezone"]) == ("12.50", "UTC")
    shown = client.get("/teams/support").json()
    assert (shown["budget"], shown["budgets"][0]["available_usd"]) == (budget, "11.50")
    key, _ = services.directory.create_key("support", "chat")
    assert client.put(f"/keys/{key.id}/budget", json={"limit_usd": 5}).json()["budget"]["subject_id"] == key.id
    assert client.put("/teams/support/budget", json={"limit_usd": None}).json() == {"budget": None}
    assert [budget.subject_kind for budget in services.directory.list_budgets()] == ["key"]


@pytest.mark.parametrize("body", [{"limit_usd": 12.5}, {"limit_usd": True}, {}, {"limit_usd": [1]}])
def test_amounts_of_the_wrong_kind(client: TestClient, body: dict[str, Any]) -> None:
    assert client.put("/teams/support/budget", json=body).status_code == 422


@pytest.mark.parametrize("body", [{"limit_usd": "-1"}, {"limit_usd": "much"}, {"limit_usd": "1", "timezone": "Mars"}])
def test_amounts_that_are_none(client: TestClient, services: AdminServices, body: dict[str, Any]) -> None:
    services.directory.create_team("support")
    assert client.put("/teams/support/budget", json=body).status_code == 400


def test_the_savings_report(client: TestClient, services: AdminServices) -> None:
    now_ms = int(SYSTEM_CLOCK.wall() * 1000)
    services.directory.create_team("support")
    services.ledger.append([spend_record("a", started_at_ms=now_ms), spend_record("b", started_at_ms=5)])
    report = client.get("/reports/savings").json()
    assert (report["total"]["request_count"], report["by_cause"][0]["name"]) == (1, "smaller_model")
    both = {"from": "1970-01-01", "to": "2100-01-01", "team": "support", "format": "csv"}
    table = client.get("/reports/savings", params=both)
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[1].startswith("total,total,2,")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"from": "yesterday"}, 400),
        ({"to": "9999-12-31T23:59:59-23:59"}, 400),
        ({"team": "sales"}, 404),
        ({"format": "pdf"}, 400),
        ({"user": "a\0b"}, 400),  # on PostgreSQL a text that cannot be
        ({"by": ["team", "\0"]}, 400),
    ],
)
def test_reports_that_cannot_be(client: TestClient, query: dict[str, Any], status: int) -> None:
    assert client.get("/reports/savings", params=query).status_code == status


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/keys/a%00b/revoke"), ("GET", "/teams/a%00b"), ("DELETE", "/budgets/a%00/b"), ("GET", "/requests/%00")],
)
def test_names_that_no_database_takes_are_refused_in_paths_too(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, "a NUL can be in no name" in answer.json()["message"]) == (400, True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/projects", {"team_id": "a\0b", "id": "p"}),
        ("/keys", {"team_id": "a\0b", "name": "k"}),
        ("/keys", {"team_id": "a", "name": "k", "project_id": "a\0b"}),
        ("/budgets", {"subject_kind": "team", "subject_id": "a\0b", "limit_usd": "1"}),
    ],
)
def test_nor_are_they_taken_in_bodies(client: TestClient, path: str, body: dict[str, str]) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, "pattern" in answer.text) == (422, True)


def test_a_request_is_explained(client: TestClient, services: AdminServices) -> None:
    services.ledger.append([spend_record("req_1", deployment="small")])
    shown = client.get("/requests/req_1").json()
    assert (shown["request_id"], shown["team_id"], shown["detail"]["signals"]) == (
        "req_1",
        "support",
        ["short", "一个问题"],
    )
    assert shown["repricings"] == []
    assert client.get("/requests/req_2").status_code == 404


def test_a_request_that_was_repriced_is_explained_with_both_versions(
    client: TestClient, services: AdminServices
) -> None:
    record = spend_record("req_1", cost_nusd=500)
    services.ledger.append([record])
    begun = services.repricings.begin(7, "cli:me", "late", {})
    services.repricings.apply(begun, [(record, replace(booked(record), cost_nusd=400))])
    (version,) = client.get("/requests/req_1").json()["repricings"]
    assert (version["actor"], version["reason"]) == ("cli:me", "late")
    assert (version["before"]["cost_nusd"], version["after"]["cost_nusd"]) == (500, 400)


def test_a_request_is_explained_by_the_prices_as_they_are_now(services: AdminServices, tmp_path: Path) -> None:
    """A late correction is a change of the price file, beside a server that runs on."""
    own = tmp_path / "own_prices.yaml"
    corrected = PRICES.read_text(encoding="utf-8").replace('input: "0.5"\n', 'input: "0.25"\n')
    own.write_text(PRICES.read_text(encoding="utf-8"), encoding="utf-8")
    client = client_of(replace(services, config=services.config.model_copy(update={"prices": own})))
    services.ledger.append([priced_record("req_1", cost_nusd=1_750_000)])
    assert client.get("/requests/req_1").json()["cost_arithmetic"] is None
    own.write_text(corrected, encoding="utf-8")
    assert client.get("/requests/req_1").json()["cost_arithmetic"]["total_nusd"] == 1_750_000


def test_without_redis_budgets_are_out_of_reach(tmp_path: Path) -> None:
    with open_stores(write_config(tmp_path)) as services:
        services.directory.create_team("support")
        set_budget(services, "team", "support", 5, terms={})
        answer = client_of(services).get("/teams/support")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")

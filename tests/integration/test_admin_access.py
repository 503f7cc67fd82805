"""Roles in the admin API: what a manager and a viewer see and may change, and that nothing leads beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.testclient import TestClient

from router.clock import SYSTEM_CLOCK
from router.services import AdminServices
from router.stores import administration
from router.stores.base import Role
from tests.support.admin_api import client_of
from tests.support.spend import spend_record

USD = 10**9


@dataclass(frozen=True, slots=True)
class House:
    """Two teams of the same kind, `support` and `sales`, each with a project, a key, a record and every budget."""

    services: AdminServices
    keys: dict[str, str]

    def client(self, role: Role) -> TestClient:
        return client_of(self.services, role, "support")


@pytest.fixture
def house(services: AdminServices) -> House:
    directory, keys = services.directory, {}
    for team in ("support", "sales"):
        directory.create_team(team)
        directory.create_project(team, f"{team}-chat")
        keys[team] = directory.create_key(team, "k")[0].id
        now_ms = int(SYSTEM_CLOCK.wall() * 1000)
        services.ledger.append([spend_record(f"of-{team}", team_id=team, started_at_ms=now_ms, deployment="small")])
        administration.set_budget(services, "team", team, USD, terms={})
        administration.set_budget(services, "project", f"{team}-chat", USD, terms={})
        administration.set_budget(services, "key", keys[team], USD, terms={})
        administration.set_budget(services, "user", f"{team}/*", USD, terms={})
    administration.set_budget(services, "organization", "default", USD, terms={})
    administration.set_budget(services, "tag", "batch", USD, terms={})
    return House(services, keys)


def set_budget(client: TestClient, kind: str, subject_id: str) -> Any:
    return client.post("/budgets", json={"subject_kind": kind, "subject_id": subject_id, "limit_usd": 5})


def test_a_viewer_and_a_manager_see_their_own_team_and_nothing_else(house: House) -> None:
    key = house.keys["support"]
    own = ["team:support:month", "project:support-chat:month", f"key:{key}:month", "user:support/*:month"]
    roles: tuple[Role, ...] = ("viewer", "manager")
    for client in map(house.client, roles):
        assert [budget["id"] for budget in client.get("/budgets").json()["budgets"]] == own
        assert [team["id"] for team in client.get("/teams").json()["teams"]] == ["support"]
        assert [shown["id"] for shown in client.get("/keys").json()["keys"]] == [key]
        assert [project["id"] for project in client.get("/projects").json()["projects"]] == ["support-chat"]
        assert [spender["name"] for spender in client.get("/spenders").json()["spenders"]] == ["support"]
        report = client.get("/reports/savings").json()
        assert ([line["name"] for line in report["by_team"]], len(report["budgets"])) == (["support"], 4)
        assert client.get("/requests/of-support").status_code == 200
        entries = client.get("/audit").json()["entries"]
        assert sorted(entry["target"] for entry in entries) == sorted(
            [*own, "team:support", "project:support-chat", f"key:{key}"]
        )
        assert client.get("/audit", params={"limit": 2}).json()["entries"] == entries[:2]


FOREIGN = [
    ("GET", "/teams/{team}"),
    ("GET", "/keys?team={team}"),
    ("GET", "/projects?team={team}"),
    ("GET", "/budgets?team={team}"),
    ("GET", "/spenders?team={team}"),
    ("GET", "/reports/savings?team={team}"),
    ("GET", "/reports/savings?team=support&team={team}"),
    ("GET", "/reports/savings?team={team}&format=focus"),
    ("GET", "/reports/chargeback?team={team}"),
    ("GET", "/requests/of-{team}"),
    ("GET", "/budgets/team:{team}:month"),
    ("GET", "/budgets/user:{team}/*:month/users"),
    ("GET", "/budgets/project:{team}-chat:month/history"),
    ("PUT", "/budgets/project:{team}-chat:month"),
    ("DELETE", "/budgets/user:{team}/*:month"),
    ("POST", "/keys/{key}/revoke"),
    ("POST", "/keys/{key}/rotate"),
    ("PUT", "/keys/{key}/budget"),
    ("POST", "/keys"),
    ("POST", "/keys?of=project"),
    ("POST", "/budgets"),
]
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PUT", "/keys/{key}/budget"): {"limit_usd": 1},
    ("PUT", "/budgets/project:{team}-chat:month"): {"limit_usd": 1},
    ("POST", "/keys"): {"team_id": "{team}", "name": "k"},
    ("POST", "/keys?of=project"): {"team_id": "support", "name": "k", "project_id": "{team}-chat"},
    ("POST", "/budgets"): {"subject_kind": "user", "subject_id": "{team}/ann", "limit_usd": 1},
}


@pytest.mark.parametrize(("method", "path"), FOREIGN)
def test_what_is_another_teams_looks_as_if_it_were_not_there(house: House, method: str, path: str) -> None:
    def answer(team: str, key: str) -> tuple[int, str]:
        body = BODIES.get((method, path))
        filled = body and {name: str(value).replace("{team}", team) for name, value in body.items()}
        found = house.client("manager").request(method, path.format(team=team, key=key), json=filled)
        return found.status_code, found.json()["message"].replace(team, "TEAM").replace(key, "KEY")

    before = house.services.directory.audit()
    foreign, unknown = answer("sales", house.keys["sales"]), answer("nobody", "key_0")
    assert foreign == unknown
    assert foreign[0] == 404
    assert house.services.directory.audit() == before


def test_the_organizations_and_tags_budgets_are_not_a_managers_to_see(house: House) -> None:
    for budget_id in ("organization:default:month", "tag:batch:month"):
        assert house.client("manager").get(f"/budgets/{budget_id}").status_code == 404
        assert house.client("manager").delete(f"/budgets/{budget_id}").status_code == 404


@pytest.mark.parametrize(
    ("kind", "subject_id"), [("organization", "default"), ("team", "support"), ("team", "sales"), ("tag", "batch")]
)
def test_a_manager_cannot_set_what_holds_the_team_itself(house: House, kind: str, subject_id: str) -> None:
    answer = set_budget(house.client("manager"), kind, subject_id)
    assert (answer.status_code, answer.json()["message"][:27]) == (403, "Only a key of role admin ma")


def test_a_manager_cannot_change_the_budget_that_holds_the_team_itself(house: House) -> None:
    manager, before = house.client("manager"), house.services.directory.list_budgets()
    for answer in (
        manager.put("/budgets/team:support:month", json={"limit_usd": "999"}),
        manager.delete("/budgets/team:support:month"),
        manager.put("/teams/support/budget", json={"limit_usd": None}),
        manager.post("/teams", json={"id": "mine"}),
        manager.post("/projects", json={"team_id": "support", "id": "mine"}),
    ):
        assert (answer.status_code, "role admin" in answer.json()["message"]) == (403, True)
    assert house.services.directory.list_budgets() == before


def test_a_manager_runs_its_own_team(house: House) -> None:
    manager, key = house.client("manager"), house.keys["support"]
    assert set_budget(manager, "user", "support/ann").status_code == 201
    assert manager.put("/budgets/project:support-chat:month", json={"limit_usd": "7"}).json()["limit_usd"] == "7.00"
    assert manager.put(f"/keys/{key}/budget", json={"limit_usd": 8}).json()["budget"]["limit_usd"] == "8.00"
    assert manager.delete("/budgets/user:support/*:month").status_code == 200
    made = manager.post("/keys", json={"team_id": "support", "name": "v", "role": "viewer"}).json()["key"]["id"]
    rotated = manager.post(f"/keys/{made}/rotate").json()["key"]["id"]
    assert manager.post(f"/keys/{rotated}/revoke").json()["state"] == "revoked"
    mine = [entry for entry in house.services.directory.audit() if entry.actor == "key:key_manager"]
    # A rotation is two changes: the new key, and the end of the old one.
    assert len(mine) == 8


@pytest.mark.parametrize("terms", [{"role": "manager"}, {"role": "admin"}, {"trusted": True}])
def test_a_manager_cannot_come_by_more_rights_than_its_own(house: House, terms: dict[str, Any]) -> None:
    """Neither by making such a key, nor by replacing one that is there, whose new secret it would be shown."""
    manager = house.client("manager")
    theirs = house.services.directory.create_key("support", "theirs", **terms)[0]
    for answer in (
        manager.post("/keys", json={"team_id": "support", "name": "mine", **terms}),
        manager.post(f"/keys/{theirs.id}/rotate"),
        manager.post(f"/keys/{theirs.id}/revoke"),
    ):
        assert (answer.status_code, answer.json()["message"][:27]) == (403, "Only a key of role admin ma")
    assert [key.id for key in house.services.directory.list_keys("support") if key.revoked_at_ms is None] == [
        house.keys["support"], theirs.id
    ]  # fmt: skip


CHANGES = [
    ("POST", "/teams"), ("POST", "/projects"), ("POST", "/keys"), ("POST", "/keys/k/revoke"),
    ("POST", "/keys/k/rotate"), ("PUT", "/keys/k/budget"), ("PUT", "/teams/support/budget"),
    ("POST", "/budgets"), ("PUT", "/budgets/b"), ("DELETE", "/budgets/b"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_viewer_changes_nothing_and_no_body_of_its_is_read(house: House, method: str, path: str) -> None:
    json_type = {"content-type": "application/json"}
    answer = house.client("viewer").request(method, path, content=b"{", headers=json_type)
    assert (answer.status_code, answer.json()["code"]) == (403, "admin_required")
    assert answer.json()["message"].endswith("the one given is of role viewer.")

"""Budgets that the configuration declares: put into effect at a start, kept, changed and removed with the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.budget import Budget
from router.errors import ConfigError
from router.services import AdminServices
from router.stores.administration import set_budget
from router.stores.base import DirectoryError
from tests.support.admin_api import open_stores
from tests.support.administration import write_config
from tests.support.budgets_declared import declare


@pytest.fixture
def services(tmp_path: Path) -> Iterator[AdminServices]:
    """Without Redis: before the first start of an embedded one, there is none."""
    with open_stores(write_config(tmp_path)) as services:
        services.directory.create_team("support")
        yield services


def changes(services: AdminServices) -> list[tuple[str, str]]:
    """What the configuration has changed, the oldest first."""
    return [(e.action, e.target) for e in reversed(services.directory.audit()) if e.actor == "config"]


def budget(services: AdminServices) -> Budget:
    (found,) = services.directory.list_budgets()
    return found


def test_what_is_declared_is_there_and_what_no_longer_is_is_removed(services: AdminServices) -> None:
    declare(services, {"team": "support", "limit_usd": "5"}, {"organization": True, "limit_tokens": 9})
    assert [(b.id, b.limit, b.source) for b in services.directory.list_budgets()] == [
        ("organization:default:month:tokens", 9, "config"),
        ("team:support:month", 5 * 10**9, "config"),
    ]
    declare(services, {"team": "support", "limit_usd": "6", "paced": True})
    assert (budget(services).limit, budget(services).paced) == (6 * 10**9, True)
    declare(services)
    assert services.directory.list_budgets() == ()
    assert changes(services) == [
        ("budget.create", "team:support:month"),
        ("budget.create", "organization:default:month:tokens"),
        ("budget.change", "team:support:month"),
        ("budget.remove", "organization:default:month:tokens"),
        ("budget.remove", "team:support:month"),
    ]


def test_a_start_that_changes_nothing_leaves_no_trace(services: AdminServices) -> None:
    for _ in range(2):
        declare(services, {"team": "support", "limit_usd": "5", "downgrade_from": "80%"})
    assert changes(services) == [("budget.create", "team:support:month")]


def test_what_people_set_stays_until_it_is_declared(services: AdminServices) -> None:
    set_budget(services, "team", "support", 7, terms={})
    declare(services)
    assert (budget(services).limit, budget(services).source) == (7, "admin")
    declare(services, {"team": "support", "limit_usd": 1})
    assert (budget(services).limit, budget(services).source) == (10**9, "config")


def test_nothing_but_the_configuration_changes_it(services: AdminServices) -> None:
    declare(services, {"team": "support", "limit_usd": "5"})
    with pytest.raises(DirectoryError, match="is declared in the configuration"):
        set_budget(services, "team", "support", 7, terms={})
    assert budget(services).limit == 5 * 10**9


def test_a_key_that_was_replaced_is_known_by_its_old_name(services: AdminServices) -> None:
    old = services.directory.create_key("support", "chat")[0].id
    declared = {"key": old, "limit_requests": 60, "window": "minute"}
    declare(services, declared)
    new = services.directory.rotate_key(old)[0].id
    newest = services.directory.rotate_key(new)[0].id
    declare(services, declared)
    assert (budget(services).subject_id, budget(services).id) == (newest, f"key:{old}:minute:requests")
    assert changes(services) == [("budget.create", f"key:{old}:minute:requests")]


@pytest.mark.parametrize(
    ("subject", "sentence"),
    [
        ({"team": "sales"}, r"budgets\.declared\.1 \(team:sales:month\): there is no team 'sales'"),
        ({"project": "chat"}, r"budgets\.declared\.1 \(project:chat:month\): there is no project 'chat'"),
        ({"key": "key_0"}, r"budgets\.declared\.1 \(key:key_0:month\): there is no key 'key_0'"),
        ({"user": "sales/ann"}, r"budgets\.declared\.1 \(user:sales/ann:month\): there is no team 'sales'"),
    ],
)
def test_a_budget_of_whom_there_is_not_ends_the_start_by_name(
    services: AdminServices, subject: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        declare(services, {"team": "support", "limit_usd": 1}, {**subject, "limit_usd": 1})

"""What every Directory must do."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select

from policies.budget import Budget
from policies.money import MAX_NUSD
from router.clock import Clock
from router.stores.base import DirectoryError, KeyInfo, Principal, TeamInfo, UnknownEntryError, secret_sha256
from router.stores.sql_directory import SqlDirectory
from router.stores.sql_schema import KEYS

START = datetime(2026, 11, 1, tzinfo=UTC).timestamp()


class Watch:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = START

    def wall(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def directory(engine: Engine, watch: Watch) -> SqlDirectory:
    directory = SqlDirectory(engine, clock=Clock(wall=watch.wall))
    directory.create_team("support", "Customer support")
    return directory


def who(directory: SqlDirectory, secret: str) -> Principal | None:
    return directory.principal_by_hash(secret_sha256(secret))


# teams


def test_teams_are_listed_by_id(directory: SqlDirectory) -> None:
    directory.create_team("analytics")
    assert directory.list_teams() == (
        TeamInfo("analytics", "analytics", int(START * 1000)),
        TeamInfo("support", "Customer support", int(START * 1000)),
    )


def test_a_second_team_of_one_id(directory: SqlDirectory) -> None:
    with pytest.raises(DirectoryError, match="a team 'support' already"):
        directory.create_team("support")


@pytest.mark.parametrize("team_id", ["", "Support", "a b", "-a", "客服", "a" * 64, "a\n"])
def test_ids_that_no_team_can_have(directory: SqlDirectory, team_id: str) -> None:
    with pytest.raises(DirectoryError, match="cannot be a team's id"):
        directory.create_team(team_id)


def test_a_name_may_be_chinese_but_not_unprintable(directory: SqlDirectory) -> None:
    assert directory.create_team("kefu", "客服").name == "客服"
    with pytest.raises(DirectoryError, match="printable"):
        directory.create_team("other", "a\x00b")


# keys


def test_a_key_authenticates_by_its_secret_alone(directory: SqlDirectory) -> None:
    key, secret = directory.create_key("support", "chat")
    assert re.fullmatch(r"sk-parsimony-[A-Za-z0-9_-]{43}", secret)
    assert secret.startswith(key.prefix)
    assert len(key.prefix) < 20
    assert who(directory, secret) == Principal(key.id, "support", "application", None, ())
    assert who(directory, secret + "x") is None
    assert who(directory, "") is None


def test_what_is_stored_does_not_authenticate(directory: SqlDirectory, engine: Engine) -> None:
    _, secret = directory.create_key("support", "chat")
    with engine.connect() as connection:
        stored = connection.execute(select(KEYS)).mappings().one()
    assert secret not in str(dict(stored))
    assert directory.principal_by_hash(stored["secret_sha256"]) is not None
    for presented in (stored["secret_sha256"], "sk-parsimony-" + stored["secret_sha256"], stored["prefix"]):
        assert who(directory, presented) is None


def test_secrets_are_not_repeated(directory: SqlDirectory) -> None:
    made = [directory.create_key("support", "chat") for _ in range(20)]
    assert len({secret for _, secret in made}) == len({key.id for key, _ in made}) == 20


def test_the_random_bytes_are_the_ones_handed_in(engine: Engine) -> None:
    directory = SqlDirectory(engine, random_bytes=lambda count: b"\xff" * count)
    directory.create_team("support")
    key, secret = directory.create_key("support", "chat")
    assert (key.id, secret) == ("key_" + "f" * 16, "sk-parsimony-" + "_" * 42 + "8")


def test_rights_travel_with_the_key(directory: SqlDirectory) -> None:
    key, secret = directory.create_key("support", "chat", "admin", ["gpt-4", "auto", "auto"])
    principal = who(directory, secret)
    assert principal is not None
    assert (principal.role, principal.allowed_models) == ("admin", frozenset({"auto", "gpt-4"}))
    assert directory.list_keys() == (key,)
    assert directory.list_keys("other") == ()


def test_keys_that_cannot_be(directory: SqlDirectory) -> None:
    with pytest.raises(UnknownEntryError, match="no team 'sales'"):
        directory.create_key("sales", "chat")
    with pytest.raises(DirectoryError, match="application or admin"):
        directory.create_key("support", "chat", "root")  # type: ignore[arg-type]
    with pytest.raises(DirectoryError, match="at least one model"):
        directory.create_key("support", "chat", allowed_models=[])
    with pytest.raises(DirectoryError, match="printable"):
        directory.create_key("support", "  ")


def test_a_revoked_key_is_over(directory: SqlDirectory, watch: Watch) -> None:
    key, secret = directory.create_key("support", "chat")
    watch.seconds += 5
    revoked = directory.revoke_key(key.id)
    assert revoked.revoked_at_ms == int((START + 5) * 1000)
    assert who(directory, secret) is None
    watch.seconds += 5
    assert directory.revoke_key(key.id) == revoked
    with pytest.raises(UnknownEntryError, match="no key 'key_x'"):
        directory.revoke_key("key_x")


def test_rotation_ends_the_old_secret_at_once(directory: SqlDirectory) -> None:
    old, old_secret = directory.create_key("support", "chat", "admin", ["auto"])
    new, new_secret = directory.rotate_key(old.id)
    assert who(directory, old_secret) is None
    assert who(directory, new_secret) == Principal(new.id, "support", "admin", frozenset({"auto"}), ())
    assert _by_id(directory, old.id).replaced_by == new.id


def test_rotation_with_grace(directory: SqlDirectory, watch: Watch) -> None:
    old, old_secret = directory.create_key("support", "chat")
    _, new_secret = directory.rotate_key(old.id, grace_seconds=60)
    principal = who(directory, old_secret)
    assert principal is not None
    assert principal.expires_at_ms == int((START + 60) * 1000)
    watch.seconds += 60
    assert who(directory, old_secret) is None
    assert who(directory, new_secret) is not None


def test_what_cannot_be_rotated(directory: SqlDirectory) -> None:
    key, _ = directory.create_key("support", "chat")
    with pytest.raises(DirectoryError, match="grace"):
        directory.rotate_key(key.id, grace_seconds=-1)
    new, _ = directory.rotate_key(key.id)
    with pytest.raises(DirectoryError, match="replaced by"):
        directory.rotate_key(key.id)
    directory.revoke_key(new.id)
    with pytest.raises(DirectoryError, match="revoked"):
        directory.rotate_key(new.id)
    with pytest.raises(UnknownEntryError):
        directory.rotate_key("key_x")


def _by_id(directory: SqlDirectory, key_id: str) -> KeyInfo:
    return next(key for key in directory.list_keys() if key.id == key_id)


def test_changes_made_at_once_take_their_turns(directory: SqlDirectory) -> None:
    key, _ = directory.create_key("support", "chat")

    def change(limit_nusd: int) -> None:
        directory.set_budget("team", "support", limit_nusd)
        directory.set_budget("key", key.id, limit_nusd)
        directory.create_key("support", "more")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(change, range(40))) == [None] * 40
    assert (len(directory.list_keys()), len(directory.list_budgets())) == (41, 2)


# budgets


def test_a_principal_carries_the_teams_and_the_keys_budget(directory: SqlDirectory) -> None:
    key, secret = directory.create_key("support", "chat")
    of_key = directory.set_budget("key", key.id, 5)
    of_team = directory.set_budget("team", "support", 100, "Asia/Shanghai")
    assert of_team == Budget("team:support:month", "team", "support", 100, "month", "Asia/Shanghai")
    principal = who(directory, secret)
    assert principal is not None
    assert principal.budgets == (of_team, of_key)
    assert directory.list_budgets() == directory.list_budgets("support") == (of_team, of_key)
    assert directory.list_budgets("other") == ()


def test_a_budget_is_changed_in_place_and_removed(directory: SqlDirectory) -> None:
    directory.set_budget("team", "support", 100)
    directory.set_budget("team", "support", 0, "Europe/Paris")
    assert [(b.limit_nusd, b.timezone) for b in directory.list_budgets()] == [(0, "Europe/Paris")]
    assert directory.set_budget("team", "support", None) is None
    assert directory.set_budget("team", "support", None) is None
    assert directory.list_budgets() == ()


def test_a_keys_budget_outlives_its_rotations(directory: SqlDirectory) -> None:
    first, first_secret = directory.create_key("support", "chat")
    budget = directory.set_budget("key", first.id, 5)
    assert budget is not None
    second, _ = directory.rotate_key(first.id, grace_seconds=60)
    third, third_secret = directory.rotate_key(second.id)
    for secret in (first_secret, third_secret):
        principal = who(directory, secret)
        assert principal is not None
        assert [(b.id, b.subject_id) for b in principal.budgets] == [(budget.id, third.id)]
    with pytest.raises(DirectoryError, match=f"replaced by '{third.id}'"):
        directory.set_budget("key", first.id, 9)


def test_a_counter_is_seeded_before_the_budget_takes_effect(directory: SqlDirectory) -> None:
    seeded: list[Budget] = []
    budget = directory.set_budget("team", "support", 100, seed=seeded.append)
    assert seeded == [budget]

    def fail(_: Budget) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        directory.set_budget("team", "support", 200, seed=fail)
    assert directory.list_budgets() == (budget,)


@pytest.mark.parametrize("amount", [-1, MAX_NUSD + 1, 0.5, True])
def test_amounts_that_are_none(directory: SqlDirectory, amount: int) -> None:
    with pytest.raises(DirectoryError, match="a budget"):
        directory.set_budget("team", "support", amount)


def test_budgets_of_nobody_or_nowhere(directory: SqlDirectory) -> None:
    with pytest.raises(UnknownEntryError, match="no team 'sales'"):
        directory.set_budget("team", "sales", 5)
    with pytest.raises(UnknownEntryError, match="no key 'support'"):
        directory.set_budget("key", "support", 5)
    for zone in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(DirectoryError, match="no time zone"):
            directory.set_budget("team", "support", 5, zone)

"""What every Directory must do."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import Engine, select

from policies.budget import Budget
from router.clock import Clock
from router.stores.base import (
    DirectoryError,
    KeyInfo,
    Principal,
    ProjectInfo,
    TeamInfo,
    UnknownEntryError,
    secret_sha256,
)
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


def limit_of(kind: str, subject: str, limit: int = 100, **changes: Any) -> Budget:
    return Budget(id="new", subject_kind=kind, subject_id=subject, limit=limit, **changes)  # type: ignore[arg-type]


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


# projects


def test_projects_belong_to_a_team(directory: SqlDirectory) -> None:
    directory.create_team("sales")
    web = directory.create_project("support", "web", "The web site")
    shop = directory.create_project("sales", "shop")
    assert web == ProjectInfo("web", "support", "The web site", int(START * 1000))
    assert directory.list_projects() == (shop, web)
    assert directory.list_projects("support") == (web,)


def test_projects_that_cannot_be(directory: SqlDirectory) -> None:
    directory.create_team("sales")
    directory.create_project("support", "web")
    with pytest.raises(DirectoryError, match="a project 'web' already"):
        directory.create_project("sales", "web")
    with pytest.raises(UnknownEntryError, match="no team 'none'"):
        directory.create_project("none", "shop")
    with pytest.raises(DirectoryError, match="cannot be a project's id"):
        directory.create_project("support", "The Web")


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
    with pytest.raises(DirectoryError, match="application or viewer or manager or admin"):
        directory.create_key("support", "chat", "root")  # type: ignore[arg-type]
    with pytest.raises(DirectoryError, match="at least one model"):
        directory.create_key("support", "chat", allowed_models=[])
    with pytest.raises(DirectoryError, match="printable"):
        directory.create_key("support", "  ")


def test_project_trust_and_tags_travel_with_the_key_and_its_successors(directory: SqlDirectory) -> None:
    directory.create_project("support", "web")
    old, secret = directory.create_key(
        "support", "chat", project_id="web", trusted=True, tags=["night", "batch", "night"]
    )
    new, new_secret = directory.rotate_key(old.id, grace_seconds=60)
    for key in (old, new):
        assert (key.project_id, key.trusted, key.tags) == ("web", True, ("batch", "night"))
    for presented in (secret, new_secret):
        principal = who(directory, presented)
        assert principal is not None
        assert (principal.project_id, principal.trusted, principal.tags) == ("web", True, ("batch", "night"))
    plain, _ = directory.create_key("support", "plain")
    assert (plain.project_id, plain.trusted, plain.tags) == (None, False, ())


def test_projects_and_tags_that_a_key_cannot_have(directory: SqlDirectory) -> None:
    directory.create_team("sales")
    directory.create_project("sales", "shop")
    with pytest.raises(UnknownEntryError, match="no project 'web'"):
        directory.create_key("support", "chat", project_id="web")
    with pytest.raises(DirectoryError, match="'shop' is not of team 'support'"):
        directory.create_key("support", "chat", project_id="shop")
    for tag in ("", "A", "a,b", "a b", "x" * 64):
        with pytest.raises(DirectoryError, match="cannot be a tag"):
            directory.create_key("support", "chat", tags=[tag])
    with pytest.raises(DirectoryError, match="at most 16 tags, not 17"):
        directory.create_key("support", "chat", tags=[f"t{i}" for i in range(17)])
    assert len(directory.create_key("support", "chat", tags=[f"t{i}" for i in range(16)])[0].tags) == 16


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

    def change(limit: int) -> None:
        directory.put_budget(limit_of("organization", "default", limit))
        directory.put_budget(limit_of("team", "support", limit))
        directory.put_budget(limit_of("key", key.id, limit))
        directory.create_key("support", "more")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(change, range(40))) == [None] * 40
    assert (len(directory.list_keys()), len(directory.list_budgets())) == (41, 3)


def test_a_key_that_is_rotated_while_its_budget_is_changed_keeps_one(directory: SqlDirectory) -> None:
    """Whichever comes first: the change lands before the rotation, or is refused because of it."""
    for round_ in range(10):
        key, _ = directory.create_key("support", "chat")
        directory.put_budget(limit_of("key", key.id, 1))

        def change(key: KeyInfo = key, limit: int = round_ + 2) -> None:
            directory.put_budget(limit_of("key", key.id, limit))

        def rotate(key: KeyInfo = key) -> None:
            directory.rotate_key(key.id)

        with ThreadPoolExecutor(2) as pool:
            changing, rotating = pool.submit(change), pool.submit(rotate)
        rotating.result()
        refused = changing.exception()
        assert refused is None or isinstance(refused, DirectoryError)
        (budget,) = [b for b in directory.list_budgets() if b.id == f"key:{key.id}:month"]
        assert budget.subject_id == _by_id(directory, key.id).replaced_by
        assert budget.limit == (1 if refused else round_ + 2)


# budgets


def test_a_budget_comes_back_as_it_was_put(directory: SqlDirectory) -> None:
    whole = limit_of(
        "team",
        "support",
        5_000,
        unit="tokens",
        window="rolling:24h",
        timezone="Asia/Shanghai",
        model="gpt-4",
        tier="complex",
        action="downgrade",
        downgrade_from=Fraction(1, 3),
        downgrade_to="moderate",
        alert_shares=(Fraction(1, 2), Fraction(1)),
        when_unavailable="refuse",
        source="config",
    )
    paced = limit_of("team", "support", paced=True, alert_shares=())
    stored = directory.put_budget(whole)
    assert stored == replace(whole, id="team:support:rolling-24h:tokens:model=gpt-4:tier=complex")
    assert directory.put_budget(paced) == replace(paced, id="team:support:month")
    assert directory.list_budgets() == (replace(paced, id="team:support:month"), stored)


def test_one_subject_may_have_several_budgets(directory: SqlDirectory) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"window": "day"},
        {"window": "minute", "unit": "requests"},
        {"window": "minute", "unit": "tokens"},
        {"window": "now", "unit": "parallel"},
        {"model": "gpt-4"},
        {"tier": "complex"},
        {"model": "gpt-4", "tier": "complex"},
    ]
    made = [directory.put_budget(limit_of("team", "support", **change)) for change in changes]
    assert len({budget.id for budget in made}) == len(changes)
    again = [directory.put_budget(limit_of("team", "support", 7, **change)) for change in changes]
    assert [budget.id for budget in again] == [budget.id for budget in made]
    assert {budget.limit for budget in directory.list_budgets()} == {7}


def test_a_principal_carries_every_budget_that_may_apply(directory: SqlDirectory) -> None:
    directory.create_team("sales")
    directory.create_project("support", "web")
    directory.create_project("support", "app")
    key, secret = directory.create_key("support", "chat", project_id="web")
    other, _ = directory.create_key("support", "other", project_id="app")
    applying = [
        ("organization", "default"),
        ("team", "support"),
        ("project", "web"),
        ("key", key.id),
        ("user", "support/*"),
        ("user", "support/ann"),
    ]
    others = [("team", "sales"), ("project", "app"), ("key", other.id), ("user", "sales/ann"), ("tag", "batch")]
    for kind, subject in [*reversed(applying), *others]:
        directory.put_budget(limit_of(kind, subject))
    principal = who(directory, secret)
    assert principal is not None
    assert [(budget.subject_kind, budget.subject_id) for budget in principal.budgets] == applying


@pytest.mark.parametrize(
    ("rights", "found"),
    [
        ({}, []),
        ({"tags": ["batch"]}, ["batch"]),
        ({"tags": ["batch", "none"]}, ["batch"]),
        ({"trusted": True}, ["batch", "night"]),
        ({"trusted": True, "tags": ["batch"]}, ["batch", "night"]),
    ],
)
def test_budgets_of_tags(directory: SqlDirectory, rights: dict[str, Any], found: list[str]) -> None:
    for tag in ("night", "batch"):
        directory.put_budget(limit_of("tag", tag))
    principal = who(directory, directory.create_key("support", "chat", **rights)[1])
    assert principal is not None
    assert [budget.subject_id for budget in principal.budgets] == found


def test_the_budgets_of_one_team(directory: SqlDirectory) -> None:
    directory.create_team("support_2")
    directory.create_team("support-2")
    directory.create_project("support", "web")
    directory.create_project("support_2", "shop")
    key, _ = directory.create_key("support", "chat")
    other, _ = directory.create_key("support_2", "chat")
    own = [("team", "support"), ("project", "web"), ("key", key.id), ("user", "support/*")]
    foreign = [
        ("team", "support_2"),
        ("project", "shop"),
        ("key", other.id),
        ("user", "support_2/*"),
        ("user", "support-2/ann"),
        ("organization", "default"),
        ("tag", "support"),
    ]
    for kind, subject in own + foreign:
        directory.put_budget(limit_of(kind, subject))
    assert [(b.subject_kind, b.subject_id) for b in directory.list_budgets("support")] == own
    assert [(b.subject_kind, b.subject_id) for b in directory.list_budgets("support-2")] == [("user", "support-2/ann")]
    assert directory.list_budgets("none") == ()
    assert len(directory.list_budgets()) == len(own + foreign)


def test_a_budget_is_changed_in_place_and_removed(directory: SqlDirectory) -> None:
    directory.put_budget(limit_of("team", "support", 100))
    changed = directory.put_budget(limit_of("team", "support", 0, timezone="Europe/Paris", action="reject"))
    assert directory.list_budgets() == (changed,)
    assert (changed.limit, changed.timezone, changed.action) == (0, "Europe/Paris", "reject")
    assert directory.remove_budget(changed.id) == changed
    assert directory.list_budgets() == ()
    with pytest.raises(UnknownEntryError, match="no budget 'team:support:month'"):
        directory.remove_budget(changed.id)


def test_all_budgets_of_a_key_outlive_its_rotations(directory: SqlDirectory) -> None:
    first, first_secret = directory.create_key("support", "chat")
    changes: list[dict[str, Any]] = [{}, {"window": "day", "unit": "tokens"}, {"model": "gpt-4"}, {"tier": "complex"}]
    ids = {directory.put_budget(limit_of("key", first.id, **change)).id for change in changes}
    second, _ = directory.rotate_key(first.id, grace_seconds=60)
    third, third_secret = directory.rotate_key(second.id)
    for secret in (first_secret, third_secret):
        principal = who(directory, secret)
        assert principal is not None
        assert {b.id for b in principal.budgets} == ids
        assert {b.subject_id for b in principal.budgets} == {third.id}
    assert directory.put_budget(limit_of("key", third.id, 9)).id == f"key:{first.id}:month"
    with pytest.raises(DirectoryError, match=f"replaced by '{third.id}'"):
        directory.put_budget(limit_of("key", first.id, 9))


def test_a_counter_is_seeded_before_the_budget_takes_effect(directory: SqlDirectory) -> None:
    seeded: list[Budget] = []
    seen: list[tuple[Budget, ...]] = []

    def seed(budget: Budget) -> None:
        seeded.append(budget)
        seen.append(directory.list_budgets())

    budget = directory.put_budget(limit_of("team", "support"), seed)
    assert (seeded, seen) == ([budget], [()])
    directory.put_budget(limit_of("team", "support"), seed)
    assert seeded == [budget]

    def fail(_: Budget) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        directory.put_budget(limit_of("team", "support", 200), fail)
    assert directory.list_budgets() == (budget,)
    assert [entry.action for entry in directory.audit(target="team:support:")] == ["budget.create"]


def test_what_the_configuration_declares_only_the_configuration_changes(directory: SqlDirectory) -> None:
    of_admin = directory.put_budget(limit_of("team", "support", 1))
    declared = directory.put_budget(limit_of("team", "support", 2, source="config"))
    assert declared == replace(of_admin, limit=2, source="config")
    for limit in (2, 3):
        with pytest.raises(DirectoryError, match="declared in the configuration: change it there"):
            directory.put_budget(limit_of("team", "support", limit))
    with pytest.raises(DirectoryError, match="declared in the configuration: change it there"):
        directory.remove_budget(declared.id)
    assert directory.list_budgets() == (declared,)
    assert directory.put_budget(limit_of("team", "support", 4, source="config")).limit == 4
    directory.remove_budget(declared.id, "config")
    assert directory.list_budgets() == ()


@pytest.mark.parametrize(
    ("kind", "subject", "why"),
    [
        ("team", "sales", "no team 'sales'"),
        ("user", "sales/ann", "no team 'sales'"),
        ("user", "sales/*", "no team 'sales'"),
        ("project", "support", "no project 'support'"),
        ("key", "support", "no key 'support'"),
        ("tag", "a,b", "'a,b' cannot be a tag"),
    ],
)
def test_budgets_of_nobody(directory: SqlDirectory, kind: str, subject: str, why: str) -> None:
    with pytest.raises(DirectoryError, match=why):
        directory.put_budget(limit_of(kind, subject))


# alerts


def test_the_first_who_asks_tells_of_a_share(directory: SqlDirectory) -> None:
    claims = [
        ("team:support:month", "2026-11", "4/5", ""),
        ("team:support:month", "2026-11", "1", ""),
        ("team:support:month", "2026-12", "4/5", ""),
        ("team:support:day", "2026-11", "4/5", ""),
        ("team:support:month", "2026-11", "4/5", "ann"),
    ]
    assert [directory.claim_alert(*claim) for claim in claims] == [True] * len(claims)
    assert [directory.claim_alert(*claim) for claim in claims] == [False] * len(claims)


def test_of_many_who_ask_at_once_one_tells(directory: SqlDirectory, engine: Engine) -> None:
    others = [SqlDirectory(engine) for _ in range(4)]
    for label in (f"2026-11-{day:02}" for day in range(1, 21)):
        with ThreadPoolExecutor(4) as pool:
            claims = pool.map(lambda other, label=label: other.claim_alert("b", label, "1"), others)
        assert sorted(claims) == [False, False, False, True]


# the record of changes


def test_every_change_is_recorded_with_its_actor_and_the_newest_first(directory: SqlDirectory, watch: Watch) -> None:
    watch.seconds += 1
    ann = directory.acting_as("key:ann")
    ann.create_project("support", "web")
    key, _ = ann.create_key("support", "chat", "manager", ["auto"], tags=["batch"])
    budget = ann.put_budget(limit_of("key", key.id, 5))
    watch.seconds += 1
    directory.acting_as("cli:bob").put_budget(limit_of("key", key.id, 7, downgrade_from=Fraction(1, 2)))
    new, _ = ann.rotate_key(key.id)
    ann.revoke_key(new.id)
    ann.remove_budget(budget.id)
    found = directory.audit()
    assert [(entry.actor, entry.action, entry.target) for entry in reversed(found)] == [
        ("system", "team.create", "team:support"),
        ("key:ann", "project.create", "project:web"),
        ("key:ann", "key.create", f"key:{key.id}"),
        ("key:ann", "budget.create", budget.id),
        ("cli:bob", "budget.change", budget.id),
        ("key:ann", "key.create", f"key:{new.id}"),
        ("key:ann", "key.rotate", f"key:{key.id}"),
        ("key:ann", "key.revoke", f"key:{new.id}"),
        ("key:ann", "budget.remove", budget.id),
    ]
    assert [entry.at_ms for entry in found] == sorted((entry.at_ms for entry in found), reverse=True)
    assert found[-1].at_ms == int(START * 1000)


def test_what_is_recorded_is_what_changed(directory: SqlDirectory) -> None:
    key, _ = directory.create_key("support", "chat", "manager", ["auto", "all"], tags=["batch"])
    budget = directory.put_budget(limit_of("team", "support", 5))
    directory.put_budget(limit_of("team", "support", 7, downgrade_from=Fraction(1, 2)))
    directory.revoke_key(key.id)
    revoked, changed, created, of_key, of_team = directory.audit()
    assert of_team.before is None
    assert of_team.after == {"name": "Customer support", "created_at_ms": int(START * 1000)}
    assert of_key.after is not None
    assert (of_key.after["role"], of_key.after["allowed_models"], of_key.after["tags"]) == (
        "manager",
        ["all", "auto"],
        ["batch"],
    )
    assert created.before is None
    assert changed.before == created.after
    assert changed.before is not None
    assert changed.after == changed.before | {"limit": 7, "downgrade_from": "1/2"}
    assert (changed.before["id"], changed.before["alert_shares"]) == (budget.id, ["4/5", "1"])
    assert revoked.before == of_key.after
    assert revoked.after == of_key.after | {"revoked_at_ms": int(START * 1000)}


def test_what_changes_nothing_is_not_recorded(directory: SqlDirectory) -> None:
    key, _ = directory.create_key("support", "chat")
    budget = directory.put_budget(limit_of("team", "support"))
    directory.revoke_key(key.id)
    before = directory.audit()
    assert directory.put_budget(limit_of("team", "support")) == budget
    directory.revoke_key(key.id)
    directory.claim_alert(budget.id, "2026-11", "1")
    assert directory.audit() == before


@pytest.mark.parametrize(
    "refused",
    [
        lambda directory: directory.create_team("support"),
        lambda directory: directory.create_project("none", "web"),
        lambda directory: directory.create_key("none", "chat"),
        lambda directory: directory.remove_budget("none"),
        lambda directory: directory.put_budget(limit_of("team", "none")),
    ],
)
def test_what_is_refused_is_not_recorded(directory: SqlDirectory, refused: Callable[[SqlDirectory], object]) -> None:
    before = directory.audit()
    with pytest.raises(DirectoryError):
        refused(directory)
    assert directory.audit() == before


def test_no_secret_is_recorded(directory: SqlDirectory) -> None:
    key, secret = directory.create_key("support", "chat")
    _, second = directory.rotate_key(key.id)
    recorded = str(directory.audit())
    for shown in (secret, second):
        assert secret_sha256(shown) not in recorded
        assert shown[: len(key.prefix)] not in recorded


def test_the_record_is_read_by_target_and_in_pages(directory: SqlDirectory) -> None:
    for limit in range(5):  # all at once: the page turns by what was seen, not by when that was
        directory.put_budget(limit_of("team", "support", limit))
    directory.create_team("support_2")
    directory.create_team("supportx2")
    budgets = directory.audit(target="team:support:month")
    assert [entry.after and entry.after["limit"] for entry in budgets] == [4, 3, 2, 1, 0]
    assert [entry.target for entry in directory.audit(target="team:support_")] == ["team:support_2"]
    assert directory.audit(target="Team") == ()
    first = directory.audit(target="team:support:month", limit=2)
    assert first == budgets[:2]
    assert directory.audit(target="team:support:month", before_id=first[-1].id, limit=2) == budgets[2:4]
    for limit in (0, -1, 1_001):
        with pytest.raises(DirectoryError, match="1 to 1000"):
            directory.audit(limit=limit)

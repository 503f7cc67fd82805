"""`Budget`: a limit on what a subject may use in a window, and what happens when it is used up."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal
from zoneinfo import ZoneInfo

from classifiers.base import TIERS, Tier
from policies.money import MAX_NUSD, format_usd
from policies.periods import Window, parse_window

SubjectKind = Literal["organization", "team", "project", "key", "user", "tag"]
SUBJECT_KINDS: tuple[SubjectKind, ...] = ("organization", "team", "project", "key", "user", "tag")
Unit = Literal["usd", "tokens", "requests", "parallel"]
UNITS: tuple[Unit, ...] = ("usd", "tokens", "requests", "parallel")
Action = Literal["reject", "cache_only", "downgrade", "warn"]
ACTIONS: tuple[Action, ...] = ("reject", "cache_only", "downgrade", "warn")
WhenUnavailable = Literal["refuse", "serve"]
WHEN_UNAVAILABLE: tuple[WhenUnavailable, ...] = ("refuse", "serve")
Source = Literal["admin", "config"]
SOURCES: tuple[Source, ...] = ("admin", "config")

ORGANIZATION = "default"
"""The subject id of the organisation: one installation serves one."""
EVERY_USER = "*"
"""In a user budget's subject, `team/*`: a counter for each end user of the team who has no budget of their own."""
RATE_WINDOWS = frozenset({"minute", "now"})
"""What is over in a moment: exceeding it is a rate limit, to be tried again, and not an empty purse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on what one subject may use in a window.

    `limit` is nano-USD for the unit `usd`, else a count: of tokens (input and output), of requests, or
    of requests under way at once (`parallel`, whose window is `now`). `subject_id` is a team's, project's or key's id,
    `<team>/<user>` or `<team>/*` for end users, a tag, or `default` for the organisation. With `model` it
    counts only what that deployment answers, with `tier` what deployments of that tier do.

    `action` is what exhaustion does. `reject` refuses everything, `cache_only` all but repeats that the cache can
    answer: these two are hard, a bound that holds. `downgrade` and `warn` are soft and never refuse.
    From `downgrade_from` on (a share of the limit; 1 where the action is `downgrade` and it is None) only
    deployments of `downgrade_to` or below are used. `alert_shares` are told of once a window. `paced`
    raises the bar for large models while spend runs ahead of the window. `when_unavailable` says what
    happens while Redis is away (None: as the configuration says). An `id` that is left empty is made of the identity.

    Raises ValueError: what was found and what is allowed.
    """

    id: str = ""
    subject_kind: SubjectKind
    subject_id: str
    limit: int
    unit: Unit = "usd"
    window: str = "month"
    timezone: str = "UTC"
    model: str | None = None
    tier: Tier | None = None
    action: Action = "cache_only"
    downgrade_from: Fraction | None = None
    downgrade_to: Tier = "simple"
    alert_shares: tuple[Fraction, ...] = (Fraction(4, 5), Fraction(1))
    paced: bool = False
    when_unavailable: WhenUnavailable | None = None
    source: Source = "admin"

    def __post_init__(self) -> None:
        _check_choice("subject_kind", self.subject_kind, SUBJECT_KINDS)
        _check_choice("unit", self.unit, UNITS)
        _check_choice("action", self.action, ACTIONS)
        _check_choice("downgrade_to", self.downgrade_to, TIERS)
        _check_choice("source", self.source, SOURCES)
        if self.tier is not None:
            _check_choice("tier", self.tier, TIERS)
        if self.model == "":
            raise ValueError("model is empty; name a deployment, or leave it out to count them all")
        if self.when_unavailable is not None:
            _check_choice("when_unavailable", self.when_unavailable, WHEN_UNAVAILABLE)
        _check_subject(self.subject_kind, self.subject_id)
        _check_limit(self.limit, self.unit)
        _check_window(self)
        _check_shares(self)
        _check_zone(self.timezone)
        if not self.id:
            object.__setattr__(self, "id", _id_of(self))

    @property
    def kind(self) -> tuple[Unit, str, str | None, Tier | None]:
        """What it counts, and over which time: a subject has at most one budget of each kind."""
        return self.unit, self.window, self.model, self.tier

    @property
    def identity(self) -> tuple[str | None, ...]:
        """What there can be one budget of only. Its id is no such thing: it outlives the rotation of a key."""
        return self.subject_kind, self.subject_id, *self.kind

    @property
    def hard(self) -> bool:
        """Nothing gets past its limit."""
        return self.action in ("reject", "cache_only")

    @property
    def is_rate_limit(self) -> bool:
        return self.window in RATE_WINDOWS

    @property
    def is_of_every_user(self) -> bool:
        """It has a counter for each end user of its team."""
        return self.subject_kind == "user" and self.subject_id.partition("/")[2] == EVERY_USER

    @property
    def downgrades_from(self) -> int | None:
        """The use from which on only `downgrade_to` and below may serve; None where it never comes to that."""
        if self.downgrade_from is not None:
            return int(self.limit * self.downgrade_from)
        return self.limit if self.action == "downgrade" else None

    @property
    def parsed_window(self) -> Window:
        return parse_window(self.window)

    def amount_text(self, amount: int) -> str:
        return amount_text(amount, self.unit)


def amount_text(amount: int, unit: str) -> str:
    """`amount` with its unit, as people write it: "12.00 USD", "5000 tokens"."""
    if unit == "usd":
        return f"{format_usd(amount)} USD"
    return f"{amount} {'requests at once' if unit == 'parallel' else unit}"


def _id_of(budget: Budget) -> str:
    """The id of a new budget, from its identity: `team:support:month`, `key:key_1:minute:tokens`.

    Colons inside a part are written `%3A`, so that no two budgets share an id.
    """
    parts = [budget.subject_kind, _without_colons(budget.subject_id), budget.window.replace(":", "-")]
    if budget.unit != "usd":
        parts.append(budget.unit)
    if budget.model is not None:
        parts.append(f"model={_without_colons(budget.model)}")
    if budget.tier is not None:
        parts.append(f"tier={budget.tier}")
    return ":".join(parts)


def _without_colons(text: str) -> str:
    return text.replace("%", "%25").replace(":", "%3A")


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in its current window: `spent` is settled, `reserved` is held for requests under way.

    Amounts in the budget's unit. `end_user` is whose counter it is, for a budget of every user. `exhausted`: it has
    refused a request in this window when less than a twentieth of it was left.
    """

    budget: Budget
    window_label: str
    spent: int
    reserved: int
    end_user: str = ""
    exhausted: bool = False

    @property
    def available(self) -> int:
        return max(self.budget.limit - self.spent - self.reserved, 0)


def _check_choice(field: str, found: str, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise ValueError(f"{field} is {found!r}; allowed are {', '.join(allowed)}")


def _check_subject(kind: SubjectKind, subject_id: str) -> None:
    if kind == "organization" and subject_id != ORGANIZATION:
        raise ValueError(f"the subject of an organization's budget is {ORGANIZATION!r}, not {subject_id!r}")
    if kind == "user":
        team, slash, user = subject_id.partition("/")
        if not (team and slash and user):
            raise ValueError(f"a user's budget names '<team>/<user>' or '<team>/{EVERY_USER}', not {subject_id!r}")
    if not subject_id or len(subject_id) > 256 or not subject_id.isprintable():
        raise ValueError(f"a budget's subject has 1 to 256 printable characters, not {subject_id[:256]!r}")


def _check_limit(limit: int, unit: Unit) -> None:
    if type(limit) is not int:
        what = "nano-USD" if unit == "usd" else unit
        raise ValueError(f"a budget's limit is a whole number of {what}, not {limit!r}")
    if not 0 <= limit <= MAX_NUSD:
        allowed = f"{format_usd(MAX_NUSD)} USD" if unit == "usd" else str(MAX_NUSD)
        raise ValueError(f"a budget lies between 0 and {allowed}, not {format_usd(limit) if unit == 'usd' else limit}")


def _check_window(budget: Budget) -> None:
    parse_window(budget.window)
    if (budget.unit == "parallel") != (budget.window == "now"):
        raise ValueError(
            f"unit {budget.unit!r} with window {budget.window!r}: requests at once are counted in the window "
            "'now', and nothing else is"
        )
    if budget.is_rate_limit and budget.unit == "usd":
        raise ValueError("a rate limit counts tokens or requests; money needs a window of an hour or more")


def _check_shares(budget: Budget) -> None:
    if budget.downgrade_from is not None and not 0 <= budget.downgrade_from <= 1:
        raise ValueError(f"downgrade_from is {float(budget.downgrade_from):g}; it must lie in 0..1")
    for share in budget.alert_shares:
        if not 0 < share <= 2:
            raise ValueError(f"an alert's share is {float(share):g}; it must lie above 0 and not above 2")
    if budget.paced and (budget.unit != "usd" or not budget.parsed_window.is_calendar):
        raise ValueError(
            f"only a budget of money in a calendar window can be paced, not one of {budget.unit} in {budget.window!r}"
        )


def _check_zone(timezone: str) -> None:
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"{timezone!r} is no time zone, such as UTC or Asia/Shanghai") from None

"""Which budgets apply to a request, where they stand as far as this worker knows, and what a refusal says."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime

from classifiers.records import record
from policies.budget import EVERY_USER, Budget
from policies.pacing import highest_price, shadow_price
from router.errors import BudgetExhausted, InvalidRequest, ParsimonyError, RateLimitExceeded
from router.openai.requests import ChatRequest
from router.pipeline.reply import Headers
from router.stores.admission import BudgetCounter, Counters, Option, Refused
from router.stores.base import ENTRY_ID, MAX_TAGS, Principal
from router.stores.counters import NO_COUNTERS, counter_of, counters_of, window_of

MAX_USER_CHARACTERS = 256

_HELD_SECONDS = 1.0
"""After which to ask again for what others only hold: nearly all of it comes back, as their requests end."""

MAX_KNOWN = 20_000
"""Keys with end users and tags for which the budgets that apply are remembered, and counters seen."""

_PERIODS = {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly", "quarter": "quarterly",
            "year": "yearly", "lifetime": "lifetime", "now": "parallel", "minute": "per-minute"}  # fmt: skip


@record()
class Applied:
    """The budgets of a request and their counters, in the same order. `until_s` is when one of their windows ends."""

    principal: Principal
    budgets: tuple[Budget, ...]
    counters: Counters
    watched: tuple[int, ...]
    """The indices of those whose state comes back with an admission."""
    until_s: float

    def masks(self, options: tuple[Option, ...]) -> tuple[bytes, ...]:
        """For each counter, which of the options count for it; empty where all do."""
        if not self.counters.filtered:
            return (b"",) * len(self.budgets)
        return tuple([_mask(counter, options) for counter in self.counters.all])


def rate_limit_headers(applied: Applied, states: Sequence[tuple[int, int]]) -> Headers:
    """OpenAI's `x-ratelimit-*`, of the tightest limit a minute on requests and of that on tokens.

    None without `states`: a request that was let in without Redis, which alone knows them.
    """
    if not states:
        return ()
    tightest: dict[str, tuple[int, int]] = {}
    for index, (spent, reserved) in zip(applied.watched, states, strict=True):
        budget = applied.budgets[index]
        if budget.window == "minute":
            remaining = max(budget.limit - spent - reserved, 0)
            tightest[budget.unit] = min(tightest.get(budget.unit, (remaining, budget.limit)), (remaining, budget.limit))
    headers: list[tuple[bytes, bytes]] = []
    for unit, (remaining, limit) in tightest.items():
        name = unit.encode()
        headers.append((b"x-ratelimit-limit-" + name, b"%d" % limit))
        headers.append((b"x-ratelimit-remaining-" + name, b"%d" % remaining))
        headers.append((b"x-ratelimit-reset-" + name, b"1m0s" if remaining < limit else b"0s"))
    return headers


def applied_to_measuring(principal: Principal, budget: Budget, now_s: float) -> Applied:
    """What limits the measuring of somebody's request: `budget`, and those of the organisation, which pays for it."""
    own = tuple([one for one in principal.budgets if one.subject_kind == "organization"])
    return _applied_of(principal, (*own, budget), "", now_s)


class ApplicableBudgets:
    """The budgets that apply to a key, an end user and tags at a time; worked out once a window."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, tuple[str, ...]], Applied] = OrderedDict()

    def of(self, principal: Principal, end_user: str, tags: tuple[str, ...], now_s: float) -> Applied:
        name = (principal.key_id, end_user, tags)
        known = self._known.get(name)
        if known is not None and known.principal is principal and now_s < known.until_s:
            return known
        applied = self._known[name] = _applied(principal, end_user, tags, now_s)
        self._known.move_to_end(name)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return applied


class Paces:
    """The shadow price of each paced budget, by what its last admission here told of it."""

    def __init__(self) -> None:
        self._spent: dict[str, int] = {}

    def saw(self, applied: Applied, states: Sequence[tuple[int, int]]) -> None:
        """Without `states`, as of a request that was let in without Redis, what is known stays."""
        for index, (spent, _) in zip(applied.watched if states else (), states, strict=True):
            if applied.budgets[index].paced:
                self._spent[applied.counters.all[index].key] = spent
        while len(self._spent) > MAX_KNOWN:
            self._spent.pop(next(iter(self._spent)))

    def price(self, applied: Applied, now_s: float) -> float:
        """The highest of the paced budgets, in [0, 1]; 0 where there is none."""
        known = [
            (applied.budgets[index], self._spent.get(applied.counters.all[index].key)) for index in applied.watched
        ]
        return highest_price([_price(budget, spent, now_s) for budget, spent in known if budget.paced and spent])


def named_by(principal: Principal, request: ChatRequest, tags: bytes) -> tuple[str, tuple[str, ...]]:
    """The end user and the tags of a request: what it says itself counts only where its key is trusted.

    Raises InvalidRequest.
    """
    if not principal.trusted:
        return "", principal.tags
    user = request.body.get("user")
    if user is None:
        user = ""
    # PostgreSQL takes no NUL: the record, and what it cost, would be in no ledger.
    if not isinstance(user, str) or len(user) > MAX_USER_CHARACTERS or not user.isprintable():
        raise InvalidRequest(
            f"'user' must be a string of at most {MAX_USER_CHARACTERS} printable characters.", param="user"
        )
    if not tags:
        return user, principal.tags
    own = [tag.strip() for tag in tags.decode("latin-1").split(",")]
    wrong = [tag for tag in own if not ENTRY_ID.fullmatch(tag)]
    if wrong or len(own) > MAX_TAGS:
        raise InvalidRequest(
            f"'x-parsimony-tags' must be at most {MAX_TAGS} names between commas, each of 1 to 63 lower-case letters, "
            f"digits, '-' or '_'; found {(wrong or own)[0]!r}{'' if wrong else f' and {len(own) - 1} more'}."
        )
    return user, tuple(sorted({*principal.tags, *own}))


def may_be_less(applied: Applied, refused: Refused) -> bool:
    """Whether counting a prompt, whose bytes were too much for a budget, may let it in after all."""
    counter = applied.counters.all[refused.counter]
    room = counter.limit - refused.spent - refused.reserved
    return refused.why == "limit" and counter.unit in ("usd", "tokens") and room > 0


def refusal(applied: Applied, refused: Refused, now_s: float) -> ParsimonyError:
    """The error for a request that a budget cannot carry: a rate limit is over in a moment, a spent purse is not."""
    budget = applied.budgets[refused.counter]
    subject = f"{budget.subject_kind} {budget.subject_id!r}"
    if budget.is_rate_limit:
        return _rate_limit_reached(budget, subject, refused, now_s)
    name = f"The {_PERIODS.get(budget.window, budget.window)} budget of {subject}"
    limit = budget.amount_text(budget.limit)
    spent, held, needed = [budget.amount_text(amount) for amount in (refused.spent, refused.reserved, refused.needed)]
    if refused.why == "tier":
        message = (
            f"{name} has used {spent} of {limit}: from {budget.amount_text(budget.downgrades_from or 0)} on, only "
            f"models of tier {budget.downgrade_to!r} or below may serve, and none that this request may use is one."
        )
        return BudgetExhausted(message, retry_after_s=_seconds_left(budget, refused, now_s))
    message = (
        f"{name} cannot carry this request: of {limit}, {spent} are spent and {held} held for requests under way; "
        f"this one may take up to {needed} (less with a lower max_tokens)."
    )
    if refused.spent + refused.needed <= budget.limit:
        return BudgetExhausted(message, retry_after_s=_HELD_SECONDS, final=False)
    return BudgetExhausted(message, retry_after_s=_seconds_left(budget, refused, now_s))


def refused_by(applied: Applied, refused: Refused) -> dict[str, str | int]:
    """What the record says of a refusal, for whoever asks later; amounts in the budget's unit."""
    budget = applied.budgets[refused.counter]
    return {
        "budget": budget.id,
        "unit": budget.unit,
        "limit": budget.limit,
        "spent": refused.spent,
        "held": refused.reserved,
        "needed": refused.needed,
    }


def _rate_limit_reached(budget: Budget, subject: str, refused: Refused, now_s: float) -> RateLimitExceeded:
    retry_after_s: float | None = _HELD_SECONDS
    if refused.needed > budget.limit:
        retry_after_s = None  # however long it waits
    elif refused.retry_at_ms is not None:
        retry_after_s = max(refused.retry_at_ms / 1000 - now_s, 0.0)
    return RateLimitExceeded(
        f"Rate limit of {subject} reached: of {budget.amount_text(budget.limit)}"
        f"{'' if budget.unit == 'parallel' else ' a minute'}, {refused.spent} are used and {refused.reserved} held "
        f"for requests under way; this one takes {refused.needed}.",
        limited="tokens" if budget.unit == "tokens" else "requests",
        limit=budget.limit,
        remaining=max(budget.limit - refused.spent - refused.reserved, 0),
        retry_after_s=retry_after_s,
    )


def _price(budget: Budget, spent: int, now_s: float) -> float:
    period = window_of(budget, datetime.fromtimestamp(now_s, UTC))
    start_ms, end_ms = int(period.start.timestamp() * 1000), int(period.end.timestamp() * 1000)
    return shadow_price(limit=budget.limit, spent=spent, start_ms=start_ms, end_ms=end_ms, now_ms=int(now_s * 1000))


def _applied(principal: Principal, end_user: str, tags: tuple[str, ...], now_s: float) -> Applied:
    budgets = tuple([budget for budget in principal.budgets if _applies(budget, principal, end_user, tags)])
    return _applied_of(principal, budgets, end_user, now_s)


def _applied_of(principal: Principal, budgets: tuple[Budget, ...], end_user: str, now_s: float) -> Applied:
    if not budgets:
        return Applied(principal, (), NO_COUNTERS, (), float("inf"))
    now = datetime.fromtimestamp(now_s, UTC)
    periods = [window_of(budget, now) for budget in budgets]
    counters = counters_of(
        [
            counter_of(budget, period, end_user if budget.is_of_every_user else None)
            for budget, period in zip(budgets, periods, strict=True)
        ]
    )
    return Applied(
        principal=principal,
        budgets=budgets,
        counters=counters,
        watched=tuple([index for index, counter in enumerate(counters.all) if counter.watched]),
        until_s=min(
            [p.end.timestamp() for b, p in zip(budgets, periods, strict=True) if b.parsed_window.is_calendar],
            default=float("inf"),
        ),
    )


def _applies(budget: Budget, principal: Principal, end_user: str, tags: tuple[str, ...]) -> bool:
    if budget.subject_kind == "tag":
        return budget.subject_id in tags
    if budget.subject_kind != "user":
        return True
    if not end_user:  # of a key that may not name one, or does not
        return False
    if budget.is_of_every_user:
        return not any(_is_own(other, budget, end_user) for other in principal.budgets)
    return budget.subject_id.partition("/")[2] == end_user


def _is_own(other: Budget, template: Budget, end_user: str) -> bool:
    """Whether `other` is this user's own budget of the kind that `template` grants to everybody.

    A user may be called `*`: everybody's is nobody's own.
    """
    return (
        other.subject_kind == "user"
        and not other.is_of_every_user
        and other.subject_id == template.subject_id.removesuffix(EVERY_USER) + end_user
        and other.kind == template.kind
    )


def _mask(counter: BudgetCounter, options: tuple[Option, ...]) -> bytes:
    if counter.model is None and counter.tier is None:
        return b""
    counts = [counter.model in (None, option.deployment) and counter.tier in (None, option.tier) for option in options]
    return b"".join([b"1" if one else b"0" for one in counts])


def _seconds_left(budget: Budget, refused: Refused, now_s: float) -> float | None:
    """Until there is room again, as far as that is known."""
    if refused.retry_at_ms is not None:
        return max(refused.retry_at_ms / 1000 - now_s, 0.0)
    if not budget.parsed_window.is_calendar:
        return None
    return window_of(budget, datetime.fromtimestamp(now_s, UTC)).end.timestamp() - now_s

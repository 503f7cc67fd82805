"""Which shares of a budget have been used, and how people are told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from policies.budget import EVERY_USER, Budget, BudgetState
from policies.money import NUSD_PER_USD, format_usd


@dataclass(frozen=True, slots=True)
class Alert:
    """`state` has reached `share` of its limit in `window`; `also_passed` are lower shares, passed since the last look.

    `id` is the same for whoever finds this share reached in this window, so that a repeat can be told by it.
    """

    id: str
    state: BudgetState
    window: str
    share: Fraction
    also_passed: tuple[Fraction, ...]
    at: datetime
    runs_out_at: datetime | None = None


def shares_reached(state: BudgetState) -> tuple[Fraction, ...]:
    """The budget's `alert_shares` that its settled use has reached, highest first.

    What is reserved does not count: a reservation is the most that a request could cost, nearly all of it comes
    back, and people should be told of what is gone. An exhausted budget counts as used up, since what is left of it
    pays for no request. Rate limits tell nobody: they are reached and over in a minute.
    """
    budget, spent = state.budget, state.spent
    if state.exhausted:
        spent = max(spent, budget.limit)
    if spent <= 0 or budget.is_rate_limit:
        return ()
    reached = {share for share in budget.alert_shares if spent * share.denominator >= budget.limit * share.numerator}
    return tuple(sorted(reached, reverse=True))


def alert_window(state: BudgetState, now: datetime) -> str:
    """What "once a window" means: a calendar window's own label, and the number of whole lengths of a rolling one.

    A rolling window never ends, so its time is cut into spans of its length, counted from 1970: a share is told of
    at most once in each. A use that stays above a share is told of again in the next span.
    """
    length_s = state.budget.parsed_window.rolling_s
    return f"{state.window_label}#{int(now.timestamp()) // length_s}" if length_s else state.window_label


def alert_text(alert: Alert) -> str:
    """One sentence for people. The percentage is of the use as it is now, rounded down, which may be past the share.

    "team support has used 80 % of its 500.00 USD for 2026-11 (402.13 USD); at this rate it runs out on 2026-11-27"
    """
    state, budget = alert.state, alert.state.budget
    used = f"{state.spent * 100 // budget.limit} % of " if budget.limit else "more than "
    text = (
        f"{_subject(budget, state.end_user)} has used {used}its {_amount(budget, budget.limit)}"
        f"{_scope(budget)} {_span(state)} ({_amount(budget, state.spent)})"
    )
    if alert.also_passed:
        text += f", passing the alert{_plural(alert.also_passed)} at {_percentages(alert.also_passed)} as well"
    if state.exhausted and state.spent < budget.limit:
        text += "; what is left pays for no request"
    elif alert.runs_out_at is not None and alert.runs_out_at > alert.at:
        text += f"; at this rate it runs out on {alert.runs_out_at:%Y-%m-%d}"
    return text


def _subject(budget: Budget, end_user: str) -> str:
    if budget.subject_kind == "organization":
        return "the organization"
    if budget.subject_kind == "user":
        team, _, user = budget.subject_id.partition("/")
        return f"user {_printable(end_user if user == EVERY_USER else user)} of team {team}"
    return f"{budget.subject_kind} {budget.subject_id}"


def _scope(budget: Budget) -> str:
    return (f" on {budget.model}" if budget.model else "") + (
        f" on models of tier {budget.tier}" if budget.tier else ""
    )


def _span(state: BudgetState) -> str:
    if state.budget.parsed_window.rolling_s:
        return f"for any {state.budget.window.removeprefix('rolling:')}"
    return "for good" if state.budget.window == "lifetime" else f"for {state.window_label}"


def _amount(budget: Budget, amount: int) -> str:
    """To the cent from a dollar on: nano-dollars are for machines. Less is exact: a cent may be the whole budget."""
    if budget.unit == "usd" and amount >= NUSD_PER_USD:
        return f"{format_usd(amount, 2)} USD"
    return budget.amount_text(amount)


def _percentages(shares: Sequence[Fraction]) -> str:
    return " and ".join(f"{float(share * 100):g} %" for share in shares)


def _plural(shares: Sequence[Fraction]) -> str:
    return "s" if len(shares) > 1 else ""


def _printable(name: str) -> str:
    """End users name themselves: no name may break a line of the log, or fill it."""
    shown = "".join(character if character.isprintable() else "?" for character in name)
    return shown if len(shown) <= 100 else f"{shown[:99]}…"

"""Whether there is what a report is restricted to: a misspelt name must not pass for somebody who spent nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Protocol, get_args

from classifiers.base import TIERS
from policies.routing import REASONS
from policies.spend import Status
from router.config import Config
from router.reports.dimensions import FROM_CACHE, NONE, Where, is_let_in, narrowing, needs_of
from router.reports.parameters import WrongParameter
from router.reports.periods import ReportPeriod
from router.stores.base import Directory
from router.stores.cells import Books

_MOST_NAMED = 12


class Known(Protocol):
    """Where names are known from."""

    @property
    def config(self) -> Config: ...
    @property
    def directory(self) -> Directory: ...
    @property
    def books(self) -> Books: ...


def check_filters(source: Known, where: Where, period: ReportPeriod) -> None:
    """Raises WrongParameter, which says what there is, for a name that neither the configuration nor the directory has,
    nor the ledger of the period: what was taken out since may still be asked for.

    Users, tags and tasks may be of any name, and whether a team may be asked for is the caller's to say. Of teams that
    are asked for, only their own keys and projects are known.
    """
    teams = tuple(where.get("team", ())) or (None,)
    for name, values in where.items():
        known = _known(source, name, teams)
        if known is None:
            continue
        for value in values:
            if value not in (*known, NONE) and not _is_booked(source.books, name, value, where, period):
                raise WrongParameter(name, _unheard_of(name, value, known))


def _known(source: Known, name: str, teams: Iterable[str | None]) -> Sequence[str] | None:
    """None where it can be any name."""
    deployments = [deployment.name for deployment in source.config.deployments]
    match name:
        case "project":
            return [project.id for team in teams for project in source.directory.list_projects(team)]
        case "key":
            return [key.id for team in teams for key in source.directory.list_keys(team)]
        case "model":
            return [*deployments, FROM_CACHE]
        case "provider":
            return list(dict.fromkeys(deployment.provider_name for deployment in source.config.deployments))
        case "alias":
            return [*source.config.aliases, *deployments]
        case "reason":
            return list(REASONS)
        case "tier":
            return TIERS
        case "status":
            return get_args(Status)
    return None


def _is_booked(books: Books, name: str, value: str, where: Where, period: ReportPeriod) -> bool:
    of_teams = {**({"team": where["team"]} if "team" in where else {}), name: (value,)}
    cells = books.cells(period.from_ms, period.to_ms, needs_of(of_teams), narrowing(of_teams))
    return any(is_let_in(cell, of_teams) for cell in cells)


def _unheard_of(name: str, value: str, known: Sequence[str]) -> str:
    near = get_close_matches(value, known, n=3)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif not known:
        hint = "there is none"
    else:
        hint = f"there are {_listed(known)}"
    return f"there is no {name} {value!r}, nor was there in this time: {hint}"


def _listed(names: Sequence[str]) -> str:
    shown = names[:_MOST_NAMED]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def unmatched_in_words(unmatched: Iterable[tuple[str, str]]) -> list[str]:
    """For whoever may have misspelt a name, where any name can be."""
    return [
        f"Nothing in this report is of the {name} {value!r}: no such request was booked." for name, value in unmatched
    ]

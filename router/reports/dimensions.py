"""By what a report can be broken down, and to what it can be restricted: its words for the ledger's dimensions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from router.reports.parameters import WrongParameter
from router.reports.periods import HOUR, WINDOWS
from router.stores.cells import ROUTER, Cell, Dimension, Filter

NONE = "(none)"
FROM_CACHE = "(response cache)"
IDLE = "(idle)"
"""The hours of machines that nobody used."""

DRIVER = "driver"
CAUSE = "cause"
TIMES = (HOUR, *WINDOWS)
CAUSES = {
    "smaller_model": "smaller model",
    "response_cache": "response cache",
    "baseline": "baseline itself",
    "pinned": "pinned by application",
    "measuring": "shadow and judge calls",
    "abandoned": "abandoned reservations",
    "other": "refused or failed",
}
"""What became of requests, with names for people. Which model is the baseline's only a configuration can tell."""
NO_DRIVER = "none"
"""Of what made no difference: answers of the baseline itself, and requests that came to nothing."""


@dataclass(frozen=True, slots=True)
class Facet:
    """A dimension of reports. `needs` are those of the ledger from which `label_of` tells a cell's name in it."""

    title: str
    needs: tuple[Dimension, ...]
    label_of: Callable[[Cell], str]


def _plain(title: str, name: Dimension) -> Facet:
    return Facet(title, (name,), lambda cell: str(cell.key[name] or NONE))


def _model(cell: Cell) -> str:
    return FROM_CACHE if cell.key["cache"] == "hit" else str(cell.key["deployment"] or NONE)


def _tags(cell: Cell) -> str:
    return ", ".join(_tags_of(cell)) or NONE


def _tags_of(cell: Cell) -> list[str]:
    return [tag for tag in str(cell.key["tags"] or "").split(",") if tag]


FACETS: dict[str, Facet] = {
    "team": _plain("Team", "team_id"),
    "project": _plain("Project", "project_id"),
    "key": _plain("Key", "key_id"),
    "user": _plain("User", "end_user"),
    "tag": Facet("Tags", ("tags",), _tags),
    "model": Facet("Model", ("deployment", "cache"), _model),
    "provider": _plain("Provider", "provider_name"),
    "alias": _plain("Asked for", "alias"),
    "reason": _plain("Reason", "reason"),
    "task": _plain("Task", "task"),
    "tier": _plain("Tier", "tier"),
    "status": _plain("Status", "status"),
}
"""`tag` is all the tags of a request: a request has one line, however many tags it bears."""
NOT_ROLLED_UP = frozenset({"user", "tag"})
DIMENSIONS = (*FACETS, *TIMES, CAUSE, DRIVER)

Where = Mapping[str, Collection[str]]
"""By name of a facet, the names that are let in: of a request's tags, one must be among them."""


def where_of(given: Mapping[str, Collection[str] | None]) -> dict[str, tuple[str, ...]]:
    """What somebody gave to be restricted to: a name that is given twice is let in once, and nothing lets in all."""
    return {name: tuple(dict.fromkeys(values)) for name, values in given.items() if values}


def check_dimensions(names: Sequence[str], allowed: Sequence[str] = DIMENSIONS) -> None:
    """Raises WrongParameter for a name that is none, or that comes twice."""
    for name in names:
        if name not in allowed:
            once_each = "; name each by itself" if "," in name else ""
            sentence = f"a report cannot be by {name!r}; allowed are {', '.join(allowed)}{once_each}"
            raise WrongParameter("by", sentence)
    if len(set(names)) < len(names):
        raise WrongParameter("by", f"a report cannot be twice by the same: {', '.join(names)}")


def title_of(name: str) -> str:
    return FACETS[name].title if name in FACETS else name.capitalize()


def needs_of(names: Collection[str]) -> tuple[Dimension, ...]:
    """The dimensions of the ledger from which these are told, each once, and in the same order whatever theirs is."""
    found: dict[Dimension, None] = {}
    for name, facet in FACETS.items():
        found |= dict.fromkeys(facet.needs if name in names else ())
    return (*found, *(("hour_ms",) if HOUR in names else ()))


def is_let_in(cell: Cell, where: Where) -> bool:
    for name, values in where.items():
        of_cell = _tags_of(cell) or [NONE] if name == "tag" else [FACETS[name].label_of(cell)]
        if not any(label in values for label in of_cell):
            return False
    return True


def narrowing(where: Where) -> Filter:
    """What the ledger can leave out by itself: no less than all that `is_let_in` would."""
    narrow: dict[Dimension, Collection[str | bool | None]] = {}
    for name, values in where.items():
        if name != "tag" and FROM_CACHE not in values:
            narrow[FACETS[name].needs[0]] = [*values, *((None, "") if NONE in values else ())]
    return narrow


def machine_label(name: str, source: str, router: bool = False) -> str:
    """What the costs of machines that are nobody's are called in a facet."""
    if router:
        return ROUTER
    return f"{source} {IDLE}" if name == "model" else IDLE

"""Books of which only a part may be seen, for reports that do not narrow down by themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Self

from router.reports.dimensions import Where, narrowing
from router.reports.parameters import WrongParameter
from router.stores.cells import Books, Cell, Dimension, Filter, HourCost, ShadowSample

_NARROWS = ("team", "project", "key", "alias", "provider")
_Values = Collection[str | bool | None]


class NarrowedBooks:
    """`Books` that hold nothing beside what `only` lets in. Machines are nobody's in particular: they are left out."""

    def __init__(self, books: Books, only: Filter) -> None:
        self._books = books
        self._only = only

    @classmethod
    def of(cls, books: Books, where: Where) -> Books | Self:
        """Raises WrongParameter for what cannot be told from one dimension of the ledger."""
        if not where:
            return books
        for name in where:
            if name not in _NARROWS:
                sentence = f"line items cannot be restricted by {name!r}; allowed are {', '.join(_NARROWS)}"
                raise WrongParameter(name, sentence)
        return cls(books, narrowing(where))

    def cells(self, from_ms: int, to_ms: int, by: Sequence[Dimension], where: Filter | None = None) -> tuple[Cell, ...]:
        return self._books.cells(from_ms, to_ms, by, self._both(where or {}))

    def samples(self, from_ms: int, to_ms: int, where: Filter | None = None) -> tuple[ShadowSample, ...]:
        return self._books.samples(from_ms, to_ms, self._both(where or {}))

    def booked_until_ms(self, from_ms: int, to_ms: int) -> int | None:
        """Of the whole ledger: how far it goes is the same for every part of it."""
        return self._books.booked_until_ms(from_ms, to_ms)

    def close_hours(self, costs: Sequence[HourCost]) -> int:
        raise NotImplementedError("hours are closed for all, not for a part")

    def closed_until_ms(self, source: str) -> int | None:
        return None

    def hour_costs(self, from_ms: int, to_ms: int) -> tuple[HourCost, ...]:
        return ()

    def _both(self, where: Filter) -> Filter:
        narrowed: Mapping[Dimension, _Values] = {
            name: [value for value in values if value in self._only.get(name, values)] for name, values in where.items()
        }
        return {**self._only, **narrowed}

"""Books of a part: nothing of the others, whatever is asked of them."""

from __future__ import annotations

import pytest

from router.reports.narrowed import NarrowedBooks
from router.stores.cells import HourCost
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

FROM_MS = 1_793_491_200_000
SPAN = (FROM_MS, FROM_MS + 1)
WHOLE = RecordBooks(
    [
        spend_record("a", started_at_ms=FROM_MS),
        spend_record("b", started_at_ms=FROM_MS, team_id="sales", alias="gpt-4"),
        spend_record("s", started_at_ms=FROM_MS, kind="shadow", parent_id="b", sample_share=1.0, team_id="sales"),
    ],
    [HourCost(FROM_MS, "mistral-7b", "a100-40gb", 1, 5)],
)


def test_only_what_is_let_in_is_summed_up() -> None:
    own = NarrowedBooks.of(WHOLE, {"team": ["sales"]})
    assert [(cell.key["team_id"], cell.request_count) for cell in own.cells(*SPAN, ["team_id"])] == [("sales", 2)]
    assert own.cells(*SPAN, ["team_id"], {"team_id": ["support"]}) == ()
    assert [cell.request_count for cell in own.cells(*SPAN, [], {"kind": ["shadow"], "team_id": ["sales", "x"]})] == [1]
    assert [sample.request_id for sample in own.samples(*SPAN)] == ["b"]
    assert NarrowedBooks.of(WHOLE, {"team": ["support"]}).samples(*SPAN) == ()


def test_those_without_one_are_let_in_by_the_name_for_that() -> None:
    own = NarrowedBooks.of(WHOLE, {"project": ["(none)"]})
    assert own.cells(*SPAN, ["project_id"]) == WHOLE.cells(*SPAN, ["project_id"]) != ()


def test_machines_are_nobodys() -> None:
    own = NarrowedBooks.of(WHOLE, {"alias": ["gpt-4"]})
    assert (own.hour_costs(*SPAN), own.closed_until_ms("mistral-7b")) == ((), None)
    with pytest.raises(NotImplementedError):
        own.close_hours(WHOLE.hour_costs(*SPAN))


def test_what_is_not_narrowed_down_is_the_whole() -> None:
    assert NarrowedBooks.of(WHOLE, {}) is WHOLE


def test_what_one_dimension_cannot_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be restricted by 'tag'; allowed are team"):
        NarrowedBooks.of(WHOLE, {"tag": ["batch"]})

"""What cells are called in reports, and which of them a filter lets in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reports.dimensions import FACETS, check_dimensions, is_let_in, machine_label, narrowing, needs_of
from router.stores.cells import Cell
from tests.support.books import RecordBooks
from tests.support.ledgers import FROM_MS, HOURS, SOME_LEDGERS, books

SPAN = (FROM_MS, FROM_MS + HOURS * 3_600_000)


def cell(**key: Any) -> Cell:
    return Cell(key, *[0] * 11)


@pytest.mark.parametrize(
    ("name", "key", "label"),
    [
        ("team", {"team_id": "support"}, "support"),
        ("project", {"project_id": None}, "(none)"),
        ("user", {"end_user": ""}, "(none)"),
        ("tag", {"tags": ",batch,nightly,"}, "batch, nightly"),
        ("tag", {"tags": ""}, "(none)"),
        ("model", {"deployment": "phi", "cache": "miss"}, "phi"),
        ("model", {"deployment": "phi", "cache": "hit"}, "(response cache)"),
        ("model", {"deployment": None, "cache": "off"}, "(none)"),
    ],
)
def test_labels(name: str, key: dict[str, Any], label: str) -> None:
    assert FACETS[name].label_of(cell(**key)) == label


@SOME_LEDGERS
@given(books(), st.sampled_from(sorted(FACETS)))
def test_the_ledger_leaves_out_nothing_that_a_filter_lets_in(ledger: RecordBooks, name: str) -> None:
    needs = needs_of([name])
    whole = ledger.cells(*SPAN, needs)
    labels = {"batch"} if name == "tag" else {FACETS[name].label_of(each) for each in whole}
    for label in labels:
        where = {name: [label]}
        wanted = [each for each in whole if is_let_in(each, where)]
        narrowed = ledger.cells(*SPAN, needs, narrowing(where))
        assert [each for each in narrowed if is_let_in(each, where)] == wanted


def test_a_tag_is_one_of_a_requests_tags() -> None:
    assert is_let_in(cell(tags=",batch,nightly,"), {"tag": ["nightly"]})
    assert not is_let_in(cell(tags=",batch,"), {"tag": ["bat"]})
    assert is_let_in(cell(tags=""), {"tag": ["(none)"]})


def test_what_there_is_not_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"by 'team,model'; allowed are .*; name each by itself"):
        check_dimensions(["team,model"])
    with pytest.raises(ValueError, match="by 'colour'; allowed are team, project"):
        check_dimensions(["colour"])
    with pytest.raises(ValueError, match="twice by the same: team, team"):
        check_dimensions(["team", "team"])


def test_what_machines_cost_that_is_nobodys_has_names_of_its_own() -> None:
    assert [machine_label(name, "phi") for name in ("team", "model")] == ["(idle)", "phi (idle)"]
    assert machine_label("model", "(router)", router=True) == "(router)"

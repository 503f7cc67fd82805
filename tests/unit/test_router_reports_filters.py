"""What a report may be restricted to: what there is, what there was, and what can be of any name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from router.config import load_config
from router.reports.filters import check_filters, unmatched_in_words
from router.reports.periods import ReportPeriod
from tests.support.administration import write_config
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

START_MS = 1_793_491_200_000
PERIOD = ReportPeriod(START_MS, START_MS + 3_600_000)
KEYS = {"support": ["key_support"], "sales": [f"key_{number}" for number in range(20)]}


class Directory:
    """Of each team its keys, and no projects."""

    def list_keys(self, team_id: str | None = None) -> list[SimpleNamespace]:
        teams = KEYS if team_id is None else [team_id]
        return [SimpleNamespace(id=key) for team in teams for key in KEYS[team]]

    def list_projects(self, team_id: str | None = None) -> list[SimpleNamespace]:
        return []


@pytest.fixture
def source(tmp_path: Path) -> SimpleNamespace:
    retired = spend_record("a", started_at_ms=START_MS, deployment="retired", key_id="key_old", team_id="support")
    config = load_config(write_config(tmp_path))
    return SimpleNamespace(config=config, directory=Directory(), books=RecordBooks([retired]))


@pytest.mark.parametrize(
    "where",
    [
        {"model": ["small", "retired", "(response cache)", "(none)"]},
        {"provider": ["vllm"], "alias": ["auto", "large"], "tier": ["simple"], "status": ["refused"]},
        {"reason": ["paced"]},
        {"key": ["key_support", "key_19", "key_old"]},
        {"user": ["anybody"], "tag": ["anything"], "task": ["whatever"]},
    ],
)
def test_what_there_is_or_was_in_that_time_can_be_asked_for(
    source: SimpleNamespace, where: dict[str, list[str]]
) -> None:
    check_filters(source, where, PERIOD)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"model": ["small", "larg"]}, "no model 'larg', nor was there in this time: did you mean large?"),
        ({"model": ["small (idle)"]}, "there are small, large, .response cache."),
        ({"status": ["fine"]}, "there are ok, error, cancelled, refused, abandoned"),
        ({"project": ["x"]}, "no project 'x', nor was there in this time: there is none"),
        ({"key": ["zzz"]}, "there are key_support, key_0, .*, key_10 and 9 more"),
        ({"key": ["key_support"], "team": ["sales"]}, "no key 'key_support'"),
        ({"key": ["key_old"], "team": ["sales"]}, "no key 'key_old'"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(
    source: SimpleNamespace, where: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_filters(source, where, PERIOD)


def test_what_was_taken_out_is_unknown_where_it_was_not_used(source: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="no model 'retired'"):
        check_filters(source, {"model": ["retired"]}, ReportPeriod(START_MS + 3_600_000, START_MS + 7_200_000))


def test_what_nothing_answers_to_is_said_in_a_sentence_each() -> None:
    assert unmatched_in_words([("user", "ann"), ("tag", "b")]) == [
        "Nothing in this report is of the user 'ann': no such request was booked.",
        "Nothing in this report is of the tag 'b': no such request was booked.",
    ]

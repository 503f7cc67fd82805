"""What the demo takes for success, and which request it explains."""

from __future__ import annotations

import pytest

from router.cli.demo import check_outcomes, telling_example
from router.cli.demo_server import DemoFailed
from router.cli.demo_traffic import DemoOutcome


def outcome(team: str, status: int = 200, code: str | None = None, **headers: str) -> DemoOutcome:
    named = {f"x-parsimony-{name.replace('_', '-')}": value for name, value in headers.items()}
    return DemoOutcome(team, status, code, "", named)


ANSWERED = outcome("research")
REFUSED = outcome("research", 429, "insufficient_quota")


def test_a_team_that_runs_out_partway_is_a_success() -> None:
    check_outcomes([outcome("support"), ANSWERED, REFUSED])


@pytest.mark.parametrize(
    ("outcomes", "complaint"),
    [
        ([ANSWERED], "nothing was refused"),
        ([outcome("support"), REFUSED], "no answer at all"),
        ([ANSWERED, REFUSED, outcome("support", 429, "insufficient_quota")], "1 of 3 requests failed.*team support"),
        ([ANSWERED, REFUSED, outcome("research", 429, "rate_limit_exceeded")], "429 rate_limit_exceeded"),
        ([ANSWERED, REFUSED, outcome("engineering", 0)], "team engineering: 0"),
    ],
)
def test_anything_else_fails_and_says_what(outcomes: list[DemoOutcome], complaint: str) -> None:
    with pytest.raises(DemoFailed, match=complaint):
        check_outcomes(outcomes)


def test_the_example_is_the_first_of_the_most_telling_reason() -> None:
    outcomes = [
        outcome("support", reason="simple", request_id="a"),
        outcome("research", reason="budget", request_id="b"),
        outcome("research", reason="budget", request_id="c"),
        outcome("research", reason="complex", request_id="d"),
    ]
    assert telling_example(outcomes) == "b"


def test_without_a_reason_there_is_no_example() -> None:
    with pytest.raises(DemoFailed, match="x-parsimony-reason"):
        telling_example([outcome("support", cache="hit")])

"""How long a courier waits between its attempts."""

from __future__ import annotations

from router.alerts.alerter import LEASE_SECONDS
from router.alerts.courier import RetrySchedule


def test_waits_double_up_to_a_bound_and_are_random_below_it() -> None:
    schedule = RetrySchedule()
    bounds = [schedule.wait_s(failures, 0, 1.0) for failures in range(1, schedule.attempts)]
    assert bounds == [2, 4, 8, 16, 32, 64, 128, 240, 240, 240]
    assert [schedule.wait_s(failures, 0, 0.25) for failures in (1, 2, 10)] == [0.5, 1, 60]
    assert 400 < sum(bounds) / 2 < 600


def test_what_the_receiver_asks_for_is_waited_within_reason() -> None:
    schedule = RetrySchedule()
    assert schedule.wait_s(1, 30, 0.5) == 30
    assert schedule.wait_s(5, 3, 1.0) == 32
    assert schedule.wait_s(1, 86_400, 0.5) == 240


def test_nobody_takes_a_claim_over_while_its_courier_may_still_try() -> None:
    schedule = RetrySchedule()
    longest_timeout_s = 60
    assert schedule.attempts * (longest_timeout_s + schedule.max_seconds) <= LEASE_SECONDS

"""What every AlertBook must do: SqlDirectory on each database, and the one in memory that tests use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from router.clock import Clock
from router.stores.base import AlertBook, AlertClaim
from router.stores.sql_directory import SqlDirectory
from tests.support.alert_book import MemoryAlertBook

START_S = 1_795_336_200.0
SHARES = ("1/2", "4/5", "1")


class Watch:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = START_S
        self.clock = Clock(wall=lambda: self.seconds)

    def ms(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture(params=["memory", "sql"])
def book(request: pytest.FixtureRequest, engine: Engine, watch: Watch) -> AlertBook:
    return MemoryAlertBook(watch.clock) if request.param == "memory" else SqlDirectory(engine, clock=watch.clock)


def claim(book: AlertBook, share: str = "4/5", window: str = "2026-11", end_user: str = "") -> AlertClaim | None:
    """The claim, where it was won."""
    wanted = AlertClaim("team:support:month", window, share, end_user, f'{{"share": "{share}"}}')
    won = book.claim_alert(wanted.budget_id, window, share, end_user, wanted.event)
    return wanted if won else None


def test_the_first_to_ask_has_the_claim_and_keeps_it(book: AlertBook) -> None:
    won = claim(book)
    assert won is not None
    assert claim(book) is None
    book.confirm_alert(won)
    assert claim(book) is None


def test_another_share_window_or_user_is_another_claim(book: AlertBook) -> None:
    assert claim(book)
    assert claim(book, share="1")
    assert claim(book, window="2026-12")
    assert claim(book, end_user="amy")
    assert not claim(book, end_user="amy")


def test_of_many_who_ask_at_once_one_has_it(book: AlertBook) -> None:
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda number: claim(book, share=SHARES[number % 3]), range(30)))
    assert sorted(one.share for one in won if one) == sorted(SHARES)


def test_what_was_not_confirmed_is_taken_over_with_its_event(book: AlertBook, watch: Watch) -> None:
    claims = []
    for share in SHARES:
        claims.append(claim(book, share))
        watch.seconds += 1
    half, most, all_ = claims
    assert half is not None
    assert most is not None
    assert all_ is not None
    book.confirm_alert(most)
    assert book.take_over_alerts(int(START_S * 1000)) == ()
    assert book.take_over_alerts(int((START_S + 2) * 1000)) == (half,)
    assert book.take_over_alerts(watch.ms()) == (all_,)
    assert book.take_over_alerts(watch.ms()) == ()
    watch.seconds += 1
    assert set(book.take_over_alerts(watch.ms())) == {half, all_}
    book.confirm_alert(half)
    book.confirm_alert(all_)
    watch.seconds += 1
    assert book.take_over_alerts(watch.ms()) == ()


def test_the_oldest_are_taken_first(book: AlertBook, watch: Watch) -> None:
    for share in SHARES:
        claim(book, share)
        watch.seconds += 1
    assert [one.share for one in book.take_over_alerts(watch.ms(), limit=2)] == ["1/2", "4/5"]
    assert [one.share for one in book.take_over_alerts(watch.ms(), limit=2)] == ["1"]


def test_of_many_who_take_over_at_once_each_claim_goes_to_one(book: AlertBook, watch: Watch) -> None:
    for number in range(30):
        claim(book, window=str(number))
    watch.seconds += 1
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: book.take_over_alerts(watch.ms(), limit=10), range(8)))
    windows = [one.window_label for some in taken for one in some]
    assert len(windows) == len(set(windows))


def test_without_an_event_there_is_nothing_to_take_over(book: AlertBook, watch: Watch) -> None:
    assert book.claim_alert("team:support:month", "2026-11", "1")
    watch.seconds += 1
    assert book.take_over_alerts(watch.ms()) == ()

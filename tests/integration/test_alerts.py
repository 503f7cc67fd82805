"""From a budget's state to receivers that misbehave: each share is told of once a window, and none is lost."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import typer

from policies.budget import Budget, BudgetState
from policies.money import parse_usd
from router.alerts.alerter import LEASE_SECONDS, MAX_CLAIMS_PER_POLL, TAKE_OVER_EVERY_SECONDS, Alerter
from router.alerts.courier import Courier, RetrySchedule
from router.alerts.events import trial_event
from router.alerts.webhooks import Webhook
from router.cli.alerts import send_trial
from router.clock import Clock
from router.errors import StoreUnavailable
from router.stores.base import AlertClaim
from tests.support.alert_book import MemoryAlertBook
from tests.support.receiver import Receiver, receiver_server
from tests.support.upstream import Received, Step, close, hang, page, raw, reset, status

START = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
BUDGET = Budget(id="team:support:month", subject_kind="team", subject_id="support", limit=parse_usd(500))
EVENT = trial_event("1", START)
SECRET = b"whsec_1"
ALL_DONE_S = 10.0


class Watch:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = START.timestamp()
        self.clock = Clock(wall=lambda: self.seconds)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def book(watch: Watch) -> MemoryAlertBook:
    return MemoryAlertBook(watch.clock)


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with receiver_server() as receiver:
        yield receiver


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    server.received.clear()
    return server


class Waits:
    """What a courier waited for: nothing, in truth, but its turn."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


Couriers = Callable[..., Courier]


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def couriers(watch: Watch, waits: Waits) -> Iterator[Couriers]:
    made: list[Courier] = []

    def courier(*webhooks: Webhook, sleep: Callable[[float], Awaitable[object]] = waits, **options: Any) -> Courier:
        made.append(Courier(webhooks, clock=watch.clock, sleep=sleep, random_share=lambda: 0.5, **options))
        return made[-1]

    yield courier
    for one in made:
        one.close(0)


def sent(courier: Courier) -> None:
    future = courier.send(EVENT)
    assert future is not None
    future.result(ALL_DONE_S)


def state(spent: str | int, budget: Budget = BUDGET, label: str = "2026-11") -> BudgetState:
    return BudgetState(budget, label, parse_usd(spent), 0)


def told(receiver: Receiver, path: str = "/hook") -> list[tuple[str, float, list[float]]]:
    bodies = [request.body for request in receiver.posted(path)]
    return [(body["window"], body["share"], body["also_passed"]) for body in bodies]


# delivery


def test_a_receiver_that_fails_twice_gets_the_event_at_the_third_attempt(
    receiver: Receiver, couriers: Couriers, waits: Waits
) -> None:
    url = receiver.at("/fails", page(500), page(503), page(200))
    sent(couriers(Webhook(url)))
    assert [request.body for request in receiver.posted("/fails")] == [EVENT] * 3
    assert waits.seconds == [1, 2]


def test_a_receiver_that_is_asked_too_often_is_left_alone_for_as_long_as_it_says(
    receiver: Receiver, couriers: Couriers, waits: Waits
) -> None:
    in_a_minute = "Sun, 22 Nov 2026 08:31:00 GMT"
    url = receiver.at(
        "/busy",
        status(429, headers={"retry-after": "30"}),
        status(429, headers={"retry-after": in_a_minute}),
        status(503, headers={"retry-after": "soon"}),
        page(200),
    )
    sent(couriers(Webhook(url)))
    assert len(receiver.posted("/busy")) == 4
    assert waits.seconds == [30, 60, 4]


@pytest.mark.parametrize("failure", [hang, close, reset])
def test_a_receiver_that_says_nothing_is_asked_again(
    failure: Callable[[], Any], receiver: Receiver, couriers: Couriers, waits: Waits, caplog: pytest.LogCaptureFixture
) -> None:
    url = receiver.at("/silent", failure(), page(200))
    sent(couriers(Webhook(url, timeout_seconds=0.05 if failure is hang else 5)))
    assert len(receiver.posted("/silent")) == 2
    assert waits.seconds == [1]
    assert "attempt 1; again in 1 s" in caplog.text


def test_an_answer_that_drips_is_no_reason_to_wait_for_ever(
    receiver: Receiver, couriers: Couriers, waits: Waits
) -> None:
    head = b"HTTP/1.1 500 Status\r\ntransfer-encoding: chunked\r\n\r\n"
    drops: list[Step] = [b"1\r\nx\r\n", 0.02]
    url = receiver.at("/drips", raw(head, *drops * 200), page(200))
    sent(couriers(Webhook(url, timeout_seconds=0.1)))
    assert len(receiver.posted("/drips")) == 2


def test_nobody_listens(couriers: Couriers, waits: Waits, caplog: pytest.LogCaptureFixture) -> None:
    with receiver_server() as gone:
        url = gone.url()
    sent(couriers(Webhook(url), schedule=RetrySchedule(attempts=3)))
    assert waits.seconds == [1, 2]
    assert "attempt 3, and is given up: ConnectError" in caplog.text


@pytest.mark.parametrize("code", [301, 400, 404, 410])
def test_a_refusal_is_final(
    code: int, receiver: Receiver, couriers: Couriers, waits: Waits, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = {"location": receiver.url("/elsewhere")}
    url = receiver.at("/refuses", status(code, "no_service", headers=elsewhere))
    sent(couriers(Webhook(url)))
    assert len(receiver.posted("/refuses")) == 1
    assert receiver.posted("/elsewhere") == []
    assert waits.seconds == []
    assert f"127.0.0.1, attempt 1, and is given up: {code}: " in caplog.text
    assert "no_service" in caplog.text


def test_the_address_and_the_secret_are_never_logged(
    receiver: Receiver, couriers: Couriers, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # as configure_logging does: httpx would log addresses
    path = "/services/T0000000/XXXXsecretXXXX?token=deadbeef"
    url = receiver.at(path, page(500, f"<html>error at {path}"), close(), page(404, f"Cannot POST {path}\nor more"))
    with caplog.at_level(logging.DEBUG):
        sent(couriers(Webhook(url, b"whsec_12345")))
    assert len(receiver.posted(path)) == 3
    assert "Cannot POST" in caplog.text
    for secret in ("T0000000", "XXXXsecretXXXX", "deadbeef", "whsec_12345"):
        assert secret not in caplog.text


def test_a_signature_is_fresh_at_every_attempt(receiver: Receiver, couriers: Couriers, watch: Watch) -> None:
    async def sleep(seconds: float) -> None:
        watch.seconds += seconds

    url = receiver.at("/signed", page(500), page(200))
    sent(couriers(Webhook(url, SECRET), sleep=sleep))
    first, second = receiver.posted("/signed")
    assert signed_at(second) - signed_at(first) == 1
    assert first.headers["content-type"] == "application/json"


def signed_at(request: Received) -> int:
    """When it was signed; fails where the signature is none."""
    time, _, digest = request.headers["x-parsimony-signature"].partition(",v1=")
    stamp = time.removeprefix("t=")
    assert digest == hmac.new(SECRET, f"{stamp}.".encode() + request.raw, hashlib.sha256).hexdigest()
    return int(stamp)


def test_without_a_secret_nothing_is_signed_and_slack_gets_its_text(receiver: Receiver, couriers: Couriers) -> None:
    sent(couriers(Webhook(receiver.url("/slack"), format="slack")))
    (request,) = receiver.posted("/slack")
    assert request.body == {"text": EVENT["text"]}
    assert "x-parsimony-signature" not in request.headers


def test_one_receiver_that_hangs_keeps_nothing_from_another(receiver: Receiver, couriers: Couriers) -> None:
    hangs = Webhook(receiver.at("/hangs", hang()), timeout_seconds=60)
    courier = couriers(hangs, Webhook(receiver.url("/well")))
    futures = [courier.send(EVENT) for _ in range(8)]
    receiver.wait_for_call(8 + 2)
    assert len(receiver.posted("/well")) == 8
    assert len(receiver.posted("/hangs")) == 2
    assert not any(future is None or future.done() for future in futures)


def test_more_events_than_can_be_under_way_are_handed_back(receiver: Receiver, couriers: Couriers) -> None:
    courier = couriers(Webhook(receiver.at("/hangs", hang()), timeout_seconds=60), limit=2)
    first, second, third = (courier.send(EVENT) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is None
    courier.close(0)
    assert first.cancelled()
    assert second.cancelled()


# shares


def test_each_share_is_told_of_once_a_window(
    receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    alerter = Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock)
    for spent in ("399.99", "400", "410", "399", "450", "500", "510"):
        alerter.poll([state(spent)])
    alerter.poll([state("100", label="2026-12")])
    alerter.poll([state("400", label="2026-12")])
    alerter.close(ALL_DONE_S)
    assert sorted(told(receiver)) == [("2026-11", 0.8, []), ("2026-11", 1.0, []), ("2026-12", 0.8, [])]
    assert len({request.body["id"] for request in receiver.posted()}) == 3
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines == [
        "team support has used 80 % of its 500.00 USD for 2026-11 (400.00 USD)",
        "team support has used 100 % of its 500.00 USD for 2026-11 (500.00 USD)",
        "team support has used 80 % of its 500.00 USD for 2026-12 (400.00 USD)",
    ]


def test_shares_passed_at_once_are_told_of_as_the_highest(
    receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch
) -> None:
    budget = replace(BUDGET, alert_shares=(Fraction(1, 2), Fraction(4, 5), Fraction(1)))
    alerter = Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock)
    alerter.poll([state("420", budget)])
    alerter.poll([state("300", budget)])  # what is corrected later tells nobody of the lower share
    alerter.close(ALL_DONE_S)
    assert told(receiver) == [("2026-11", 0.8, [0.5])]
    again = Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock)
    again.poll([state("300", budget)])
    again.poll([state("500", budget)])
    again.close(ALL_DONE_S)
    assert told(receiver)[1:] == [("2026-11", 1.0, [])]


def test_a_lower_share_is_covered_where_another_tells_of_a_higher_one(
    receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch
) -> None:
    assert book.claim_alert(BUDGET.id, "2026-11", "1", "", "{}")
    alerter = Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock)
    alerter.poll([state("500")])
    alerter.poll([state("450")])
    alerter.close(ALL_DONE_S)
    assert told(receiver) == []
    watch.seconds += 1
    assert [claim.share for claim in book.take_over_alerts(int(watch.seconds * 1000))] == ["1"]


def test_a_rolling_window_is_told_of_again_after_its_length(
    receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch
) -> None:
    rolling = replace(BUDGET, id="team:support:rolling-24h", window="rolling:24h")
    alerter = Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock)
    for _ in range(3 * 24):
        alerter.poll([state("450", rolling, "rolling")])
        watch.seconds += 3_600
    alerter.close(ALL_DONE_S)
    days = {int((START + timedelta(hours=hours)).timestamp()) // 86_400 for hours in range(3 * 24)}
    assert sorted(told(receiver)) == [(f"rolling#{day}", 0.8, []) for day in sorted(days)]


def test_the_forecast_is_told_too(receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch) -> None:
    def forecast(_: BudgetState, now: datetime) -> datetime:
        return now + timedelta(days=5)

    alerter = Alerter(book, couriers(Webhook(receiver.url())), forecast=forecast, clock=watch.clock)
    alerter.poll([state("400")])
    alerter.close(ALL_DONE_S)
    (request,) = receiver.posted()
    assert request.body["text"].endswith("; at this rate it runs out on 2026-11-27")
    assert request.body["runs_out_at"] == "2026-11-27T08:30:00Z"


def test_of_two_who_look_at_once_one_tells(
    receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch
) -> None:
    budgets = [replace(BUDGET, id=f"team:t{number}:month", subject_id=f"t{number}") for number in range(20)]
    alerters = [Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock) for _ in range(2)]

    def look(alerter: Alerter) -> None:
        for spent in ("100", "400", "450", "500"):
            alerter.poll([state(spent, budget) for budget in budgets])
        alerter.close(ALL_DONE_S)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(look, alerters))
    ids = [request.body["id"] for request in receiver.posted()]
    assert len(ids) == len(set(ids))
    assert {(request.body["budget"]["subject_id"], request.body["share"]) for request in receiver.posted()} == {
        (budget.subject_id, share) for budget in budgets for share in (0.8, 1.0)
    }


# crashes


def test_what_was_claimed_and_not_delivered_is_told_by_the_next_process(
    receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch
) -> None:
    dying = Alerter(book, couriers(Webhook(receiver.at("/hook", hang()), timeout_seconds=60)), clock=watch.clock)
    dying.poll([state("400")])
    receiver.wait_for_call()
    dying.close(0)
    watch.seconds += 1
    receiver.at("/hook", page(200))
    for _ in range(3):
        next_one = Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock)
        next_one.poll([])
        next_one.close(ALL_DONE_S)
        watch.seconds += 1
    first, second = receiver.posted()
    assert first.body == second.body


def test_what_a_dead_process_left_is_taken_over_by_one_of_those_that_live(
    receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    living = [Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock) for _ in range(2)]
    watch.seconds += 1
    dying = Alerter(book, couriers(Webhook(receiver.at("/hangs", hang()), timeout_seconds=60)), clock=watch.clock)
    dying.poll([state("400")])
    dying.close(0)
    for _ in range(LEASE_SECONDS // TAKE_OVER_EVERY_SECONDS):
        for alerter in living:
            alerter.poll([state("400")])
        watch.seconds += TAKE_OVER_EVERY_SECONDS
    assert caplog.text.count("has used 80 %") == 1
    watch.seconds += 1
    for alerter in living:
        alerter.poll([state("400")])
        alerter.close(ALL_DONE_S)
    assert caplog.text.count("has used 80 %") == 2
    assert told(receiver) == [("2026-11", 0.8, [])]


def test_what_was_handed_back_is_told_in_the_end(
    receiver: Receiver, couriers: Couriers, book: MemoryAlertBook, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    alerter = Alerter(book, couriers(Webhook(receiver.url()), limit=0), clock=watch.clock)
    alerter.poll([state("400")])
    assert "too many alerts are under way" in caplog.text
    watch.seconds += 1
    Alerter(book, couriers(Webhook(receiver.url())), clock=watch.clock).poll([])
    receiver.wait_for_call()


class BrokenBook(MemoryAlertBook):
    """Fails at the calls numbered in `failing`, counted over all its methods that write."""

    def __init__(self, clock: Clock, failing: set[int]) -> None:
        super().__init__(clock)
        self.failing = failing
        self.calls = 0

    def claim_alert(self, *args: Any, **options: Any) -> bool:
        self._count()
        return super().claim_alert(*args, **options)

    def confirm_alert(self, claim: AlertClaim) -> None:
        self._count()
        super().confirm_alert(claim)

    def _count(self) -> None:
        self.calls += 1
        if self.calls in self.failing:
            raise StoreUnavailable("the ledger cannot be reached")


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_wherever_the_store_fails_the_highest_share_is_told_of(
    failing: int, receiver: Receiver, couriers: Couriers, watch: Watch
) -> None:
    broken = BrokenBook(watch.clock, {failing})
    alerter = Alerter(broken, couriers(Webhook(receiver.url())), clock=watch.clock)
    for _ in range(3):
        with suppress(StoreUnavailable):
            alerter.poll([state("500")])
    alerter.close(ALL_DONE_S)
    assert broken.calls >= failing
    assert [share for _, share, _ in told(receiver)] == [1.0]


def test_without_webhooks_alerts_are_logged_and_that_is_all(
    couriers: Couriers, book: MemoryAlertBook, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    alerter = Alerter(book, couriers(), clock=watch.clock)
    alerter.poll([state("400")])
    alerter.poll([state("400")])
    assert caplog.text.count("has used 80 %") == 1
    watch.seconds += 1
    assert book.take_over_alerts(int(watch.seconds * 1000)) == ()


def test_after_a_start_claims_in_vain_take_their_turns(couriers: Couriers, watch: Watch) -> None:
    counting = BrokenBook(watch.clock, set())
    budgets = [replace(BUDGET, id=f"team:t{number}:month") for number in range(MAX_CLAIMS_PER_POLL + 10)]
    states = [state("400", budget) for budget in budgets]
    for budget in budgets:
        counting.claim_alert(budget.id, "2026-11", "4/5")
    counting.calls = 0
    alerter = Alerter(counting, couriers(), clock=watch.clock)
    calls = []
    for _ in range(3):
        alerter.poll(states)
        calls.append(counting.calls)
    assert calls == [MAX_CLAIMS_PER_POLL, len(budgets), len(budgets)]


# the command


CONFIG = """\
deployments:
  - {name: small, provider: simulated, provider_name: vllm, model: m, price: p, tier: simple}
aliases: {auto: {}}
alerts:
  webhooks:
    - {url_env: GOOD_URL, secret_env: GOOD_SECRET}
    - {url_env: BAD_URL, format: slack}
"""


@pytest.fixture
def config_path(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOOD_URL", receiver.url())
    monkeypatch.setenv("GOOD_SECRET", SECRET.decode())
    receiver.at("/hook", page(200))
    path = tmp_path / "parsimony.yaml"
    path.write_text(CONFIG)
    return path


def test_trying_says_what_became_of_each_webhook(
    config_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAD_URL", receiver.at("/bad", page(404, "no_service")))
    with pytest.raises(typer.Exit) as raised:
        send_trial(config_path)
    assert raised.value.exit_code == 1
    assert capsys.readouterr().out.splitlines() == [
        "127.0.0.1 (json, signed): delivered: 200",
        "127.0.0.1 (slack, unsigned): not delivered: 404: no_service",
    ]
    (request,) = receiver.posted()
    assert request.body["event"] == "test"
    signed_at(request)


def test_trying_without_a_variable_names_it(config_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as raised:
        send_trial(config_path)
    assert raised.value.exit_code == 2
    assert "alerts.webhooks.1: BAD_URL is not set" in capsys.readouterr().err

"""Hours of machines are closed once they are over, each once, whatever was missed meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from policies.amortization import Hardware, HardwarePrice, MachineUse, Throughput
from policies.money import NUSD_PER_USD
from router.cli.closing import HourCloser, hour_closer
from router.config import Config, load_config
from router.config_hardware import HardwareUse
from router.hardware import UnknownHardware
from router.stores.cells import HOUR_MS, ROUTER, Cell, Dimension, Filter, HourCost
from tests.support.administration import write_config
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

TEN = int(datetime(2026, 1, 5, 10, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
FOUR_DOLLARS = 4 * NUSD_PER_USD
BOX = Hardware(
    "box",
    (
        HardwarePrice(date(2026, 1, 1), Fraction(FOUR_DOLLARS)),
        HardwarePrice(date(2026, 1, 6), Fraction(2 * FOUR_DOLLARS)),
    ),
)
ON_DEMAND = MachineUse(BOX, 3, on_demand=True, throughput=Throughput(requests_per_second=Fraction(1, 3600)))
HARDWARE = Path(__file__).parents[2] / "configs" / "hardware.yaml"


class CountingBooks(RecordBooks):
    """Counts how often it is asked for anything."""

    asked = 0

    def cells(self, from_ms: int, to_ms: int, by: Sequence[Dimension], where: Filter | None = None) -> tuple[Cell, ...]:
        self.asked += 1
        return super().cells(from_ms, to_ms, by, where)

    def closed_until_ms(self, source: str) -> int | None:
        self.asked += 1
        return super().closed_until_ms(source)


def closer(books: RecordBooks, machines: Mapping[str, MachineUse] | None = None, **options: Any) -> HourCloser:
    uses = machines or {"small": MachineUse(BOX)}
    return HourCloser(books, lambda on: uses, **options)


def closed(books: RecordBooks) -> list[tuple[int, int]]:
    """The hours since ten o'clock that cost anything, with whole dollars."""
    hours = books.hour_costs(0, 2**53)
    return [((hour.hour_ms - TEN) // HOUR_MS, hour.cost_nusd // NUSD_PER_USD) for hour in hours if hour.unit_count]


def test_an_hour_is_closed_once_it_is_over() -> None:
    books = RecordBooks()
    house = closer(books)
    assert [house.close(TEN + at * MINUTE) for at in (10, 59, 60, 61, 119, 120)] == [0, 0, 1, 0, 0, 1]
    assert closed(books) == [(0, 4), (1, 4)]
    assert books.hour_costs(TEN, TEN + 1) == (HourCost(TEN, "small", "box", 1, FOUR_DOLLARS),)


def test_the_store_is_left_alone_while_no_hour_is_over() -> None:
    books = CountingBooks()
    house = closer(books)
    house.close(TEN)
    asked = books.asked
    for minute in range(60):
        house.close(TEN + minute * MINUTE)
    assert books.asked == asked


def test_it_begins_with_the_hour_of_the_first_record() -> None:
    books = RecordBooks([spend_record("a", deployment="small", started_at_ms=TEN - 90 * MINUTE)])
    assert closer(books).close(TEN) == 2
    assert closed(books) == [(-2, 4), (-1, 4)]


@pytest.mark.parametrize("changes", [{"deployment": "other"}, {"deployment": "small", "cache": "hit"}])
def test_what_the_machine_did_not_answer_does_not_begin_it(changes: dict[str, Any]) -> None:
    books = RecordBooks([spend_record("a", started_at_ms=TEN - 90 * MINUTE, **changes)])
    closer(books).close(TEN)
    assert closed(books) == []


def test_the_router_begins_with_the_first_record_of_all() -> None:
    books = RecordBooks([spend_record("a", cache="hit", started_at_ms=TEN - 1)])
    closer(books, {ROUTER: MachineUse(BOX)}).close(TEN)
    assert closed(books) == [(-1, 4)]


def test_missed_hours_are_caught_up_after_a_long_stop_even_one_in_the_first_hour() -> None:
    books = RecordBooks()
    closer(books).close(TEN + 10 * MINUTE)
    assert closed(books) == []
    assert closer(books).close(TEN + 3 * HOUR_MS + 10 * MINUTE) == 3
    assert closed(books) == [(0, 4), (1, 4), (2, 4)]


def test_a_year_is_caught_up_a_month_at_a_time() -> None:
    books = RecordBooks([spend_record("a", deployment="small", started_at_ms=TEN - 1_000 * HOUR_MS)])
    house = closer(books)
    assert [house.close(TEN) for _ in range(3)] == [744, 256, 0]
    assert len(closed(books)) == 1_000


def test_an_hour_costs_the_price_in_force_in_it() -> None:
    books = RecordBooks()
    house = closer(books)
    house.close(TEN + 13 * HOUR_MS)
    house.close(TEN + 15 * HOUR_MS)
    assert closed(books) == [(13, 4), (14, 8)]


def test_what_is_closed_stays_as_it_is() -> None:
    books = RecordBooks()
    first, second = closer(books), closer(books, {"small": MachineUse(BOX, 2)})
    first.close(TEN)
    second.close(TEN)
    assert first.close(TEN + HOUR_MS) == 1
    assert second.close(TEN + HOUR_MS) == 0
    assert closed(books) == [(0, 4)]


def test_machines_on_demand_cost_the_hours_with_requests_once_these_are_settled() -> None:
    at = (0, 5, 70, 71, 73, 74, 75)
    records = [spend_record(f"r{at}", deployment="small", started_at_ms=TEN + at * MINUTE) for at in at]
    books = RecordBooks(records)
    house = closer(books, {"small": ON_DEMAND})
    assert [house.close(TEN + at * MINUTE) for at in (60, 74, 75, 200)] == [0, 0, 1, 2]
    assert closed(books) == [(0, 8), (1, 12)], "never more than there are; none in an hour without a request"
    assert books.closed_until_ms("small") == TEN + 3 * HOUR_MS


def test_fees_by_the_request_are_part_of_the_hour() -> None:
    use = replace(MachineUse(BOX), nusd_per_request=Fraction(NUSD_PER_USD))
    books = RecordBooks([spend_record(f"r{at}", deployment="small", started_at_ms=TEN + at) for at in range(3)])
    closer(books, {"small": use}).close(TEN + 75 * MINUTE)
    assert closed(books) == [(0, 7)]


def test_simulated_machines_say_so() -> None:
    books = RecordBooks()
    house = closer(books, simulated=True)
    house.close(TEN)
    house.close(TEN + HOUR_MS)
    assert {hour.hardware for hour in books.hour_costs(0, 2**53)} == {"box (simulated)"}


# ---- by the configuration --------------------------------------------------------------------------


def config_with(folder: Path, hardware: str | None) -> Config:
    config = load_config(write_config(folder))
    use = HardwareUse(name=hardware) if hardware else None
    return config.model_copy(
        update={
            "hardware": HARDWARE,
            "deployments": tuple(each.model_copy(update={"hardware": use}) for each in config.deployments),
            "router_hardware": use,
        }
    )


def test_each_deployment_that_serves_and_the_router_are_closed(tmp_path: Path) -> None:
    books = RecordBooks()
    house = hour_closer(config_with(tmp_path, "a100-40gb"), books)
    house.close(TEN)
    assert house.close(TEN + HOUR_MS) == 3
    found = {hour.source: (hour.hardware, hour.cost_nusd) for hour in books.hour_costs(TEN, TEN + 1)}
    assert found == dict.fromkeys(("small", "large", ROUTER), ("a100-40gb (simulated)", FOUR_DOLLARS))


def test_what_does_not_serve_is_not_closed(tmp_path: Path) -> None:
    config = config_with(tmp_path, "a100-40gb")
    small, large = config.deployments
    real = large.model_copy(update={"provider": "openai", "base_url": "http://127.0.0.1:9/v1"})
    without_address = small.model_copy(update={"provider": "openai", "base_url_env": "PARSIMONY_NOT_SET"})
    config = config.model_copy(update={"simulate": "auto", "deployments": (without_address, real)})
    books = RecordBooks()
    hour_closer(config, books).close(TEN)
    assert {(hour.source, hour.hardware) for hour in books.hour_costs(0, 2**53)} == {
        ("large", "a100-40gb"), (ROUTER, "a100-40gb"),
    }  # fmt: skip


def test_without_machines_nothing_is_closed(tmp_path: Path) -> None:
    books = CountingBooks()
    assert hour_closer(config_with(tmp_path, None), books).close(TEN) == 0
    assert books.asked == 0


def test_a_machine_without_a_price_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnknownHardware, match="'b200'"):
        hour_closer(config_with(tmp_path, "b200"), RecordBooks())

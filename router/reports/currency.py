"""In what currency a report is: dollars, or another at the dated rates of the price file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from policies.money import format_usd
from router.prices import PriceBook
from router.reports.periods import EARLIEST, ReportPeriod, unix_ms


@dataclass(frozen=True, slots=True)
class Currency:
    """`rates` are units of it for one dollar, each from the beginning of a day in UTC on, oldest first."""

    code: str = "USD"
    rates: tuple[tuple[date, Fraction], ...] = ()

    def parts(self, from_ms: int, to_ms: int) -> Iterator[tuple[int, int, Fraction]]:
        """The spans of [from_ms, to_ms) in which one rate is in force, with it."""
        if not self.rates:
            yield from_ms, to_ms, Fraction(1)
            return
        begins = [(unix_ms(datetime(day.year, day.month, day.day, tzinfo=UTC)), rate) for day, rate in self.rates]
        ends = [begin for begin, _ in begins[1:]] + [to_ms]
        for (begin, rate), end in zip(begins, ends, strict=True):
            start, stop = max(begin, from_ms), min(end, to_ms)
            if start < stop:
                yield start, stop, rate

    def in_words(self, from_ms: int, to_ms: int) -> str:
        """What the amounts of [from_ms, to_ms) were converted at, as a sentence; empty for dollars."""
        if not self.rates:
            return ""
        rates = "; ".join(f"{_decimal(rate)} from {_day(start)}" for start, _, rate in self.parts(from_ms, to_ms))
        return (
            f"Amounts are in {self.code}, converted from US dollars at the price file's rate of each day (UTC): "
            f"{rates} for one dollar. Each amount of a line is converted by itself and rounded to a billionth."
        )


USD = Currency()


def currency_of(prices: PriceBook, code: str, period: ReportPeriod) -> Currency:
    """Raises UnknownCurrency, which names those that are known, for one without a rate on the period's first day."""
    if code == "USD":
        return USD
    prices.rate_at(code, _day(period.from_ms))
    return Currency(code, tuple((rate.effective_from, rate.units_per_usd) for rate in prices.rates[code]))


def money_text(amount: int, code: str = "USD", decimals: int | None = None) -> str:
    """For people, in a sentence: "$1.50", "-$1.50", "-1.50 CNY"."""
    text = format_usd(abs(amount), decimals)
    return f"{'-' if amount < 0 else ''}{f'${text}' if code == 'USD' else f'{text} {code}'}"


def convert(amount: int, rate: Fraction) -> int:
    """Billionths of a dollar as billionths of a currency; halves go to the even neighbour."""
    return amount if rate == 1 else round(amount * rate)


def _day(instant_ms: int) -> date:
    return (EARLIEST + timedelta(milliseconds=instant_ms)).date()


def _decimal(rate: Fraction) -> Decimal:
    return Decimal(rate.numerator) / Decimal(rate.denominator)

"""The reports by name: what the command line, the admin API and the schedule ask for, and get as a table."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from router.answer_lengths import answer_lengths_beside
from router.config import Config
from router.hardware import uses_in
from router.prices import PriceFileError, load_prices
from router.reports.account import Account, Question, take_account
from router.reports.basis import provenance
from router.reports.chargeback import CHARGEABLE, chargeback_table
from router.reports.currency import USD, Currency, currency_of
from router.reports.dimensions import DIMENSIONS, Where, check_dimensions
from router.reports.exports.focus import Account as LineItemAccount
from router.reports.exports.focus import focus_csv, focus_rows
from router.reports.filters import Known, check_filters
from router.reports.narrowed import NarrowedBooks
from router.reports.parameters import WrongParameter
from router.reports.periods import ReportPeriod, unix_ms
from router.reports.savings import savings_table
from router.reports.tables import ReportTable
from router.stores.cells import ROUTER


class ReportSource(Known, Protocol):
    """What reports are made from."""

    @property
    def baseline_deployments(self) -> Collection[str]: ...


@dataclass(frozen=True, slots=True)
class ReportTerms:
    """What of the ledger a report is about, and how its amounts are written."""

    period: ReportPeriod
    where: Where = field(default_factory=dict)
    currency: str = "USD"


def savings_report(source: ReportSource, terms: ReportTerms, by: tuple[str, ...], now: datetime) -> ReportTable:
    """As `account_of`."""
    check_dimensions(by, DIMENSIONS)
    account = account_of(source, terms, by)
    return savings_table(account, by, provenance(source.books, account, prices_sha256(source.config)), unix_ms(now))


def chargeback_report(source: ReportSource, terms: ReportTerms, by: tuple[str, ...], now: datetime) -> ReportTable:
    """As `account_of`."""
    check_dimensions(by, CHARGEABLE)
    account = account_of(source, terms, by, spread=True)
    return chargeback_table(account, by, provenance(source.books, account, prices_sha256(source.config)), unix_ms(now))


def line_items(source: ReportSource, terms: ReportTerms, by: Collection[str]) -> bytes:
    """The FOCUS columns of a period as CSV. Raises WrongParameter where they are told to be what they are not: by
    something, in another currency, or restricted by what no line item has; and for filters that there are not."""
    if by:
        raise WrongParameter("by", f"line items are by day, team and model, and not by {', '.join(by)}: leave it out")
    if terms.currency != "USD":
        sentence = f"line items are in USD, as FOCUS has the currency that is billed; found {terms.currency}"
        raise WrongParameter("currency", sentence)
    books = NarrowedBooks.of(source.books, terms.where)
    check_filters(source, terms.where, terms.period)
    whose = LineItemAccount(team_names={team.id: team.name for team in source.directory.list_teams()})
    return focus_csv(focus_rows(books, terms.period.from_ms, terms.period.to_ms, whose))


def account_of(source: ReportSource, terms: ReportTerms, by: tuple[str, ...], *, spread: bool = False) -> Account:
    """Raises ValueError with a sentence for dimensions, filters or a currency that there are not, ConfigError for files
    that cannot be used, and StoreUnavailable."""
    check_filters(source, terms.where, terms.period)
    question = Question(
        period=terms.period,
        by=by,
        where=terms.where,
        currency=_currency(source.config, terms),
        baseline_deployments=source.baseline_deployments,
        machines=machine_names(source.config),
        spread=spread,
        lengths=answer_lengths_beside(source.config.prices),
    )
    return take_account(source.books, question)


def machine_names(config: Config) -> tuple[str, ...]:
    """Those with hardware, whose hours are to be closed: deployments, or the router."""
    return tuple(ROUTER if name is None else name for _, name, _ in uses_in(config))


def prices_sha256(config: Config) -> str:
    """Raises PriceFileError."""
    try:
        content = Path(config.prices).read_bytes()
    except OSError as error:
        raise PriceFileError(f"{config.prices}: cannot be read: {error.strerror}") from error
    return hashlib.sha256(content).hexdigest()


def _currency(config: Config, terms: ReportTerms) -> Currency:
    return USD if terms.currency == "USD" else currency_of(load_prices(config.prices), terms.currency, terms.period)

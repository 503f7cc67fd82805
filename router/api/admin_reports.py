"""The reports of the admin API: the same as the command line's, of the caller's team or of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar, get_args

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BeforeValidator

from router.api import admin_examples as examples
from router.api.admin_access import Caller, CallerOf
from router.api.admin_examples import documented
from router.api.admin_source import AdminSource
from router.clock import SYSTEM_CLOCK
from router.errors import ConfigError, InvalidRequest
from router.prices import UnknownCurrency
from router.reports.dimensions import where_of
from router.reports.exports.drawing import Picture
from router.reports.exports.formats import CONTENT_TYPES
from router.reports.files import FileFormat, OverviewFormat, overview_as_bytes, table_as_bytes
from router.reports.library import ReportTerms, chargeback_report, line_items, savings_report
from router.reports.machine_reports import machine_break_even, machine_utilization
from router.reports.overview import overview
from router.reports.parameters import WrongParameter
from router.reports.periods import ReportPeriod, report_period
from router.reports.tables import ReportTable
from router.stores.administration import budget_states, team_of
from router.stores.base import DirectoryError

T = TypeVar("T")
_Names = Annotated[list[str] | None, Query()]
By = Annotated[list[str] | None, Query(description="What lines differ in; may be repeated.")]
FormatOrFocus = Literal[FileFormat, "focus"]


def _among(formats: Sequence[str]) -> BeforeValidator:
    """Pydantic's own sentence would not say what was found."""

    def check(found: str) -> str:
        if found not in formats:
            allowed = ", ".join(formats)
            raise InvalidRequest(f"there is no format {found!r} here; allowed are {allowed}", param="format")
        return found

    return BeforeValidator(check)


OutputFormat = Annotated[FileFormat, _among(get_args(FileFormat)), Query(alias="format")]
OutputFormatOrFocus = Annotated[FormatOrFocus, _among(get_args(FormatOrFocus)), Query(alias="format")]


def _where(
    team: _Names = None,
    project: _Names = None,
    key: _Names = None,
    user: _Names = None,
    tag: _Names = None,
    model: _Names = None,
    provider: _Names = None,
    alias: _Names = None,
    reason: _Names = None,
    task: _Names = None,
    tier: _Names = None,
    status: _Names = None,
) -> dict[str, tuple[str, ...]]:
    return where_of(locals())


WhereOf = Annotated[dict[str, tuple[str, ...]], Depends(_where)]


def _span(
    from_text: Annotated[str | None, Query(alias="from")] = None,
    to_text: Annotated[str | None, Query(alias="to")] = None,
    period: str | None = None,
    timezone: str = "UTC",
) -> ReportPeriod:
    try:
        return report_period(SYSTEM_CLOCK.now(), from_text=from_text, to_text=to_text, name=period, timezone=timezone)
    except WrongParameter as error:
        raise InvalidRequest(str(error), param=error.param) from error


SpanOf = Annotated[ReportPeriod, Depends(_span)]


def _asked(where: WhereOf, span: SpanOf, currency: str = "USD") -> ReportTerms:
    return ReportTerms(span, where, currency)


TermsOf = Annotated[ReportTerms, Depends(_asked)]


def add_reading(router: APIRouter, source: AdminSource) -> None:
    _add_savings(router, source)
    _add_chargeback(router, source)


def add_administering(router: APIRouter, source: AdminSource) -> None:
    """What machines cost is nobody's in particular, so only those who see all may see it."""

    @router.get(
        "/reports/utilization",
        response_model=None,
        **documented("Say how busy machines are, and what they really cost", examples.UTILIZATION),
    )
    def utilization(span: SpanOf, output: OutputFormat = "json") -> Response:
        return _answer(_checked(lambda: machine_utilization(source, span, SYSTEM_CLOCK.now())), output)

    @router.get(
        "/reports/break-even",
        response_model=None,
        **documented("Say from how many requests a day on machines are cheaper than APIs", examples.BREAK_EVEN),
    )
    def break_even(span: SpanOf, output: OutputFormat = "json") -> Response:
        table, curves = _checked(lambda: machine_break_even(source, span, SYSTEM_CLOCK.now()))
        return _answer(table, output, curves)


def _add_savings(router: APIRouter, source: AdminSource) -> None:
    @router.get(
        "/reports/savings",
        response_model=None,
        **documented("Compare what was spent with what the baseline would have cost", examples.SAVINGS),
    )
    def savings(caller: CallerOf, asked: TermsOf, by: By = None, output: OutputFormatOrFocus = "json") -> Response:
        """Without `by`, in several ways at once; `html` and `parquet`, which hold one table, are by team then. `focus`
        is line items, which only some filters can narrow down."""
        terms = _scoped(source, caller, asked)
        if output == "focus":
            return _line_items(source, terms, by)
        if by or output == "html" or output == "parquet":
            table = _checked(lambda: savings_report(source, terms, tuple(by or ("team",)), SYSTEM_CLOCK.now()))
            return _answer(table, output)
        return _checked(lambda: _overview(source, terms, output))


def _add_chargeback(router: APIRouter, source: AdminSource) -> None:
    @router.get(
        "/reports/chargeback",
        response_model=None,
        **documented("Share out all that a period really cost", examples.CHARGEBACK),
    )
    def chargeback(caller: CallerOf, asked: TermsOf, by: By = None, output: OutputFormatOrFocus = "json") -> Response:
        """By team, where `by` says nothing else. `focus` as of savings."""
        terms = _scoped(source, caller, asked)
        if output == "focus":
            return _line_items(source, terms, by)
        table = _checked(lambda: chargeback_report(source, terms, tuple(by or ("team",)), SYSTEM_CLOCK.now()))
        return _answer(table, output)


def _scoped(source: AdminSource, caller: Caller, asked: ReportTerms) -> ReportTerms:
    """Only what the caller may see. Raises UnknownEntryError for a team that it may not, or that there is not."""
    teams = tuple(dict.fromkeys(caller.scope(team) for team in asked.where.get("team", ()) or (None,)))
    named = tuple(team for team in teams if team is not None)
    for team in named:
        team_of(source, team)
    others = {name: values for name, values in asked.where.items() if name != "team"}
    return ReportTerms(asked.period, {"team": named, **others} if named else others, asked.currency)


def _overview(source: AdminSource, terms: ReportTerms, output: OverviewFormat) -> Response:
    teams, now = tuple(terms.where.get("team", ())), SYSTEM_CLOCK.now()
    budgets = budget_states(source, teams[0] if teams else None, now) if len(teams) < 2 else ()
    shown = overview(source, terms, now, budgets)
    return Response(overview_as_bytes(shown, output), media_type=CONTENT_TYPES[output])


def _line_items(source: AdminSource, terms: ReportTerms, by: list[str] | None) -> Response:
    return Response(_checked(lambda: line_items(source, terms, by or ())), media_type=CONTENT_TYPES["csv"])


def _answer(table: ReportTable, output: FileFormat, curves: Sequence[Picture] = ()) -> Response:
    return Response(table_as_bytes(table, output, curves), media_type=CONTENT_TYPES[output])


def _checked(make: Callable[[], T]) -> T:
    """Dimensions, currencies and filters that there are not are the caller's mistake; files of ours are not."""
    try:
        return make()
    except UnknownCurrency as error:
        raise InvalidRequest(str(error), param="currency") from error
    except WrongParameter as error:
        raise InvalidRequest(str(error), param=error.param) from error
    except (DirectoryError, ConfigError):
        raise
    except ValueError as error:
        raise InvalidRequest(str(error)) from error

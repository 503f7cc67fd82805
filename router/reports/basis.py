"""What a report's figures rest on, in sentences: what is an estimate, by what, and until when machines are counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies.money import format_usd
from policies.sampling import VERSION
from router.reports.account import Account, Question
from router.reports.currency import money_text
from router.reports.figures import percent
from router.reports.filters import unmatched_in_words
from router.reports.periods import local_text
from router.reports.tables import Provenance
from router.stores.cells import ROUTER, Books, Cell

_DECIMALS = 4


def provenance(books: Books, account: Account, prices_sha256: str | None = None) -> Provenance:
    """Asks the books once more: how far they go, and until when the hours of machines are closed."""
    question = account.question
    period = question.period
    sources = {*question.machines, *(hour.source for hour in account.hours)}
    return Provenance(
        prices_sha256=prices_sha256,
        estimators=(*_estimators(account), VERSION),
        ledger_until_ms=books.booked_until_ms(period.from_ms, period.to_ms),
        closed_until_ms={source: books.closed_until_ms(source) for source in sorted(sources)},
    )


def savings_basis(account: Account, made: Provenance) -> tuple[str, ...]:
    return (*_counterfactual(account), *_costs(account, made.closed_until_ms))


def cost_basis(account: Account, made: Provenance) -> tuple[str, ...]:
    """Of a report that has no counterfactual in it."""
    return tuple(_costs(account, made.closed_until_ms))


def _counterfactual(account: Account) -> Iterator[str]:
    figures, total = account.total.figures, account.total
    if not figures.counterfactual:
        return
    baselines = " or ".join(sorted({str(posting.cell.key["baseline_model"]) for posting in account.postings}))
    exact = percent(figures.exact_counterfactual, figures.counterfactual)
    yield (
        f"The counterfactual is what {baselines} would have charged for the same requests. "
        f"{_money(account, figures.exact_counterfactual)} of it ({exact} %) is exact: the baseline itself answered. "
        f"The rest is an estimate, made when each request was answered ({_versions(account)}): input recounted with "
        "the baseline's tokenizer, output estimated, at the price of that day. A repeat from the cache counts what its "
        "first answer would have cost."
    )
    found = account.corrections
    if found.sample_count:
        of_all = " of the whole ledger" if account.question.where else ""
        yield (
            f"{found.sample_count} shadow samples{of_all}, requests that really went to the baseline too, correct that "
            f"estimate by {_money(account, figures.correction)}, model by model and task by task (estimator {VERSION})."
        )
        unsampled = sum(one.unsampled_nusd for one in found.estimate.by_stratum.values())
        if unsampled:
            share = percent(unsampled, found.estimate.total_nusd)
            yield (
                f"{share} % of that estimate is of requests that had no chance to be sampled (pinned ones, say, "
                "or those from before): they are taken to be like the sampled ones, and the interval is wider for it."
            )
    elif found.booked_nusd:
        yield (
            "No shadow samples were taken in this time: the estimate is not corrected, and its interval is what such "
            f"estimates are supposed to miss the truth by (estimator {VERSION}). `shadow.share` takes samples."
        )
    if found.booked_nusd:
        yield (
            f"With a confidence of 95 %, the true counterfactual lies between {_money(account, total.low)} and "
            f"{_money(account, total.high)}. The ends of the intervals of lines do not add up, for not all lines are "
            "high or low at once."
        )


def _costs(account: Account, closed: Mapping[str, int | None]) -> Iterator[str]:
    yield from unmatched_in_words(account.unmatched)
    yield from _machines(account, closed)
    if account.question.where:
        yield f"The report is restricted: {_left_out(account.question)} in the report of all."
    yield from _observed(account)
    figures = account.total.figures
    if figures.simulated_count:
        count = figures.request_count + figures.measuring_count
        which = (
            "All requests were" if figures.simulated_count == count else f"{figures.simulated_count} of {count} were"
        )
        yield f"SIMULATED: {which} answered by simulated models; nobody was paid."
    if any(hour.simulated for hour in account.hours):
        yield "SIMULATED: some of the hours of machines are those of simulated models; nobody paid for them."
    period = account.question.period
    words = account.question.currency.in_words(period.from_ms, period.to_ms)
    if words:
        yield words


def _left_out(question: Question) -> str:
    if question.spread:
        return "machines that nobody used at all are"
    if question.is_of_models_alone:
        return "the machine of the router is"
    return "hours of machines that nobody used, and the machine of the router, are"


def _machines(account: Account, closed: Mapping[str, int | None]) -> Iterator[str]:
    if not closed:
        yield "No machine has hours in the ledger: what local models cost is their list price, without idle time."
        return
    timezone = account.question.period.timezone
    until = [
        f"{'the router' if source == ROUTER else source} until {local_text(end_ms, timezone)}"
        for source, end_ms in closed.items()
        if end_ms is not None
    ]
    if until:
        yield (
            f"Hours of machines are closed for {', '.join(until)}. What they cost beyond the list price booked in them "
            "is shared out by what was booked."
        )
    never = [source for source, end_ms in closed.items() if end_ms is None]
    if never:
        yield f"No hour is closed yet for {', '.join(never)}: the idle time is not in these figures."


def _observed(account: Account) -> Iterator[str]:
    cells = [posting.cell for posting in account.postings if _went_to_the_baseline_alone(posting.cell)]
    if cells:
        count = sum(cell.request_count for cell in cells)
        cost, observed = (sum(getattr(cell, name) for cell in cells) for name in ("cost_nusd", "observed_cost_nusd"))
        yield (
            f"{count} requests were only observed, and went to the baseline: routing would have booked "
            f"{format_usd(observed, _DECIMALS)} USD for them in place of {format_usd(cost, _DECIMALS)} USD. "
            "That is no saving, and in none of these figures."
        )


def _went_to_the_baseline_alone(cell: Cell) -> bool:
    """A repeat from the cache and a request that was refused went nowhere, whatever routing would have done."""
    key = cell.key
    return key["observed_deployment"] is not None and key["cache"] != "hit" and key["deployment"] is not None


def _estimators(account: Account) -> tuple[str, ...]:
    found = {posting.cell.key["estimator"] for posting in account.postings if posting.stratum is not None}
    return tuple(sorted(str(version) for version in found if version is not None))


def _versions(account: Account) -> str:
    versions = _estimators(account)
    return f"estimator {', '.join(versions)}" if versions else "with the answer's own length"


def _money(account: Account, amount: int) -> str:
    return money_text(amount, account.question.currency.code, _DECIMALS)

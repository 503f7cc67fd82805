"""A period's account: every amount of it once, under one driver, so that its sums by anything add up to one total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from policies.answer_lengths import ALL_ALIKE, AnswerLengths
from policies.drivers import DRIVERS, Driver
from policies.sampling import estimate
from router.reports import corrections as correcting
from router.reports.corrections import Corrections, Estimator
from router.reports.currency import USD, Currency, convert
from router.reports.dimensions import (
    DRIVER,
    NO_DRIVER,
    NOT_ROLLED_UP,
    TIMES,
    Where,
    check_dimensions,
    is_let_in,
    machine_label,
)
from router.reports.figures import Figures, add_up
from router.reports.machines import Bucket, MachineCost, Share, machine_costs
from router.reports.machines import shared_out as machines_shared_out
from router.reports.periods import HOUR, HOUR_MS, ReportPeriod
from router.reports.postings import Posting, postings, spans
from router.stores.cells import ROUTER, Books, HourCost


@dataclass(frozen=True, slots=True)
class Question:
    """What an account is taken of.

    `by` are all the dimensions that lines may be asked by. `baseline_deployments` are those of the baseline's model;
    one that bears its name need not be named. `machines` are the sources whose hours are to be closed. With `spread`
    no cost of a machine is left to nobody, as long as there is anybody. `lengths` tell which baselines ramble on.
    """

    period: ReportPeriod
    by: tuple[str, ...] = ()
    where: Where = field(default_factory=dict)
    currency: Currency = USD
    baseline_deployments: Collection[str] = ()
    machines: Collection[str] = ()
    spread: bool = False
    lengths: AnswerLengths = ALL_ALIKE

    @property
    def filters(self) -> tuple[tuple[str, str], ...]:
        """What it is restricted to, by name and value."""
        return tuple((name, value) for name, values in self.where.items() for value in values)

    @property
    def is_of_models_alone(self) -> bool:
        """Then the unused hours of their machines are in it, which are no team's, nor anything else's."""
        return set(self.where) == {"model"}


@dataclass(frozen=True, slots=True)
class Item:
    """An amount of a posting, or of a machine, that is one driver's. `figures` are in the report's currency."""

    labels: Mapping[str, str]
    at_ms: int
    driver: Driver
    figures: Figures
    counterfactual_nusd: int = 0
    posting: Posting | None = None
    """Whose counterfactual this holds; None where it holds none."""


@dataclass(frozen=True, slots=True)
class Line:
    """`names` are what it is called in the dimensions asked by. The true counterfactual lies between `low` and `high`
    in 95 of 100 cases; `drivers` add up to the savings."""

    names: tuple[str, ...]
    figures: Figures
    drivers: Mapping[Driver, int]
    low: int
    high: int


@dataclass(frozen=True)
class Account:
    """`hours` are the closed hours of machines in the period."""

    question: Question
    postings: Sequence[Posting]
    items: Sequence[Item]
    corrections: Corrections
    hours: Sequence[HourCost]

    @property
    def simulated(self) -> bool:
        """Whether any of it was never paid to anyone."""
        return self.total.figures.simulated_count > 0 or any(hour.simulated for hour in self.hours)

    @property
    def unmatched(self) -> tuple[tuple[str, str], ...]:
        """The filters that nothing in it answers to."""
        cells = [posting.cell for posting in self.postings]
        return tuple(
            (name, value)
            for name, value in self.question.filters
            if not any(is_let_in(cell, {name: (value,)}) for cell in cells)
        )

    @cached_property
    def total(self) -> Line:
        line = self._line(("total",), self.items)
        if self.question.where:
            return line
        found = self.corrections.estimate
        below, above = found.total_nusd - found.low_nusd, found.high_nusd - found.total_nusd
        return self._with_interval(line, self.items, below, above)

    def lines(self, by: Sequence[str]) -> tuple[Line, ...]:
        """One for each name that occurs; in order of time or of drivers where it is by those, else the dearest
        counterfactual first."""
        check_dimensions(by, self.question.by)
        groups: dict[tuple[str, ...], list[Item]] = defaultdict(list)
        for item in self.items:
            groups[tuple(_driver_of(item) if name == DRIVER else item.labels[name] for name in by)].append(item)
        lines = [(items, self._line(names, items)) for names, items in groups.items()]
        return tuple(line for _, line in sorted(lines, key=lambda pair: _order(by, *pair)))

    def _line(self, names: tuple[str, ...], items: Sequence[Item]) -> Line:
        figures = add_up(item.figures for item in items)
        drivers: dict[Driver, int] = defaultdict(int)
        for item in items:
            drivers[item.driver] += item.figures.savings
        line = Line(names, figures, {d: drivers[d] for d in DRIVERS if drivers.get(d)}, 0, 0)
        booked: dict[str, int] = defaultdict(int)
        counts: dict[str, int] = defaultdict(int)
        for item in items:
            if item.posting is not None and (stratum := item.posting.stratum) is not None:
                booked[stratum] += item.posting.cell.baseline_cost_nusd
                counts[stratum] += item.posting.cell.request_count
        found = self.corrections
        return self._with_interval(line, items, found.low_nusd(booked, counts), found.high_nusd(booked, counts))

    def _with_interval(self, line: Line, items: Sequence[Item], below_nusd: int, above_nusd: int) -> Line:
        """The ends are converted at the mean rate of what they are around."""
        nusd, amount = sum(item.counterfactual_nusd for item in items), line.figures.counterfactual
        rate = Fraction(amount, nusd) if nusd else Fraction(1)
        low, high = amount - convert(below_nusd, rate), amount + convert(above_nusd, rate)
        low = min(amount, max(low, 0))  # no provider pays for being asked
        return Line(line.names, line.figures, line.drivers, low, high)


def take_account(books: Books, question: Question, estimator: Estimator = estimate) -> Account:
    """Raises ValueError for dimensions that there are not, and StoreUnavailable."""
    check_dimensions(question.by)
    period = question.period
    over = spans(period, question.by, question.currency)

    def posted(by: Sequence[str], where: Where) -> list[Posting]:
        return list(postings(books, period, over, by, where, question.baseline_deployments))

    by = (*question.by, *question.where)
    narrowed = bool(question.where) and not NOT_ROLLED_UP.isdisjoint(by)
    # What cannot be shared out evenly falls to the same lines as without a restriction only if it is shared out among
    # all. Of end users and tags there are too many for that, and none in the roll-ups: the others stand as one.
    read = posted(by, question.where if narrowed else {})
    whole = posted([name for name in by if name == HOUR], {}) if narrowed else read
    found = correcting.corrections(books, whole, period.from_ms, period.to_ms, question.lengths, estimator)
    hours = books.hour_costs(period.from_ms - period.from_ms % HOUR_MS, period.to_ms)
    costs = machine_costs(hours, over, HOUR in question.by)
    idle, left = machines_shared_out(costs, read, whole, spread=question.spread)
    mine = [
        (posting, corrected, borne)
        for posting, corrected, borne in zip(read, correcting.shared_out(found, read), idle, strict=True)
        if is_let_in(posting.cell, question.where)
    ]
    items = [item for parts in mine for item in _items_of(*parts)]
    items += [_item_of_machine(question, bucket, costs[bucket], left[bucket]) for bucket in _shown(question, left)]
    return Account(question, [posting for posting, _, _ in mine], items, found, hours)


def _driver_of(item: Item) -> str:
    return item.driver if item.figures.savings else NO_DRIVER


def _items_of(posting: Posting, correction_nusd: int, borne: Share) -> Iterator[Item]:
    """One for each driver of the posting. The main one has the counterfactual, and the rest of the cost."""
    cell, main = posting.cell, posting.main_driver
    at_ms = max(int(cell.key.get("hour_ms") or 0), posting.span.from_ms)
    others = {driver: nusd for driver, nusd in posting.drivers.items() if driver != main}
    for driver, nusd in others.items():
        yield Item(posting.labels, at_ms, driver, Figures(list_cost=-nusd).converted(posting.span.rate))
    if borne.idle_nusd:
        yield Item(posting.labels, at_ms, "idle_gpu", Figures(idle_cost=borne.idle_nusd).converted(posting.span.rate))
    if borne.router_nusd:
        router = Figures(router_cost=borne.router_nusd).converted(posting.span.rate)
        yield Item(posting.labels, at_ms, "classifier", router)
    list_cost = cell.cost_nusd + sum(others.values())
    figures = _figures(posting, list_cost, correction_nusd).converted(posting.span.rate)
    yield Item(posting.labels, at_ms, main, figures, cell.baseline_cost_nusd + correction_nusd, posting)


def _figures(posting: Posting, list_cost: int, correction: int) -> Figures:
    cell, is_request = posting.cell, posting.cell.key["kind"] == "request"
    return Figures(
        request_count=cell.request_count if is_request else 0,
        measuring_count=0 if is_request else cell.request_count,
        simulated_count=cell.request_count if cell.key["simulated"] else 0,
        input_tokens=cell.input_tokens,
        output_tokens=cell.output_tokens,
        cached_input_tokens=cell.cached_input_tokens,
        reasoning_tokens=cell.reasoning_tokens,
        list_cost=list_cost,
        measuring_cost=0 if is_request else list_cost,
        booked_counterfactual=cell.baseline_cost_nusd,
        exact_counterfactual=cell.baseline_cost_nusd if posting.stratum is None else 0,
        correction=correction,
    )


def _shown(question: Question, left: Mapping[Bucket, int]) -> Iterator[Bucket]:
    """The machines' costs that are nobody's are of all, not of those whom a report is restricted to; but for models,
    whose machines they are."""
    where = question.where
    for bucket in left:
        if not where or (question.is_of_models_alone and bucket.source in where["model"]):
            yield bucket


def _item_of_machine(question: Question, bucket: Bucket, cost: MachineCost, nusd: int) -> Item:
    period, router = question.period, bucket.source == ROUTER
    labels = {name: machine_label(name, bucket.source, router) for name in question.by if name not in (*TIMES, DRIVER)}
    if HOUR in question.by:
        labels[HOUR] = period.hour_label(bucket.hour_ms or 0)
    at_ms = max(bucket.hour_ms or 0, bucket.span_from_ms)
    figures = Figures(router_cost=nusd) if router else Figures(idle_cost=nusd)
    driver: Driver = "classifier" if router else "idle_gpu"
    return Item({**labels, **cost.span.labels}, at_ms, driver, figures.converted(cost.span.rate))


def _order(by: Sequence[str], items: Sequence[Item], line: Line) -> tuple[int | str, ...]:
    at_ms = min(item.at_ms for item in items) if set(by) & set(TIMES) else 0
    driver = [*DRIVERS, NO_DRIVER].index(line.names[0]) if tuple(by) == (DRIVER,) else 0
    return (at_ms, driver, -line.figures.counterfactual, -line.figures.effective_cost, *line.names)

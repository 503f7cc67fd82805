"""`pictures_of`: what of a report's table can be seen better than read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from router.reports.dimensions import TIMES
from router.reports.exports.drawing import WIDTH, Picture, Scale, bar, frame, label, line, money, percent, whisker
from router.reports.exports.waterfall import steps, waterfall
from router.reports.tables import Column, ReportTable

_LEFT, _RIGHT, _TOP, _BAR, _GAP = 240, 120, 24, 13, 14
_MOST_BARS = 12
_MOST_POINTS = 400
_TIME_HEIGHT, _TIME_LEFT, _TIME_BOTTOM = 260, 90, 40
_LABELS_ALONG = 8
_DRIVER = "driver_"
_AMOUNTS = ("savings", "charged", "cost")
"""What is drawn over time and by name: the first of these that a table has."""
_BESIDE = "counterfactual"


@dataclass(frozen=True, slots=True)
class Bar:
    """`amounts` by the name of their colour; `interval` is of the first of them."""

    title: str
    amounts: tuple[tuple[str, str, int], ...]
    interval: tuple[int, int] | None = None


def pictures_of(table: ReportTable) -> Iterator[Picture]:
    """Each has an id of its own on the page."""
    names = {column.name: at for at, column in enumerate(table.columns)}
    total = table.total_record()
    if table.rows and {"counterfactual", "effective_cost"} <= total.keys():
        drivers = {
            column.title: _whole(total[column.name]) for column in table.columns if column.name.startswith(_DRIVER)
        }
        found = steps(_whole(total["counterfactual"]), drivers, _whole(total["effective_cost"]))
        yield waterfall("waterfall", found, table.currency)
    measured = next((table.columns[names[name]] for name in _AMOUNTS if name in names), None)
    for column in table.columns:
        if column.dimension and column.name in TIMES and measured is not None:
            yield _over_time(table, column, measured)
        elif column.dimension and measured is not None:
            yield _by_name(table, column, measured)
    if "utilization" in names:
        yield _utilisation(table)


# ---- by name -------------------------------------------------------------------------------------


def _by_name(table: ReportTable, by: Column, measured: Column) -> Picture:
    """What it would have cost, with its interval, above what it cost; or the one amount that the report has."""
    groups = _groups(table, by)
    has_baseline = _BESIDE in next(table.records(), {})
    bars = []
    for title, rows in groups.items():
        if has_baseline:
            low, high = (rows[0].get(f"{_BESIDE}_{end}") if len(rows) == 1 else None for end in ("low", "high"))
            interval = None if low is None or high is None else (_whole(low), _whole(high))
            amounts = (
                ("baseline", "on the baseline", _sum(rows, _BESIDE)),
                ("spent", "spent", _sum(rows, "effective_cost")),
            )
            bars.append(Bar(title, amounts, interval))
        else:
            bars.append(Bar(title, (("spent", measured.title, _sum(rows, measured.name)),)))
    title = f"By {by.title[:1].lower()}{by.title[1:]}"
    return _bars(f"by-{by.name}", title, _shortened(bars), table.currency)


def _groups(table: ReportTable, by: Column) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for record in table.records():
        found.setdefault(str(record[by.name]), []).append(dict(record))
    return found


def _shortened(bars: Sequence[Bar]) -> list[Bar]:
    """The largest, and the sum of the others in the last."""
    ordered = sorted(bars, key=lambda each: -max(abs(amount) for _, _, amount in each.amounts))
    if len(ordered) <= _MOST_BARS:
        return ordered
    shown, others = ordered[: _MOST_BARS - 1], ordered[_MOST_BARS - 1 :]
    sums = tuple(
        (name, words, sum(each.amounts[at][2] for each in others))
        for at, (name, words, _) in enumerate(others[0].amounts)
    )
    return [*shown, Bar(f"{len(others)} others", sums)]


def _bars(id: str, title: str, bars: Sequence[Bar], currency: str) -> Picture:
    reach = [amount for each in bars for _, _, amount in each.amounts]
    reach += [end for each in bars for end in each.interval or ()]
    scale = Scale.over(reach, _LEFT, WIDTH - _RIGHT)
    shapes, rows, top = [], [], float(_TOP)
    for each in bars:
        shapes.append(label(_LEFT - 8, top + _BAR, each.title, "end"))
        for number, (name, words, amount) in enumerate(each.amounts):
            tip = f"{each.title}, {words}: {money(amount, currency)}"
            shapes.append(bar(name, scale.place(0), top, scale.place(amount), top + _BAR, tip))
            if each.interval is not None and number == 0:
                low, high = map(scale.place, each.interval)
                shapes += whisker(low, top + _BAR / 2, high, top + _BAR / 2)
            shapes.append(label(WIDTH - 4, top + _BAR - 2, money(amount, currency), "end", "figure"))
            top += _BAR + 1
        top += _GAP
        rows.append((each.title, *(money(amount, currency) for _, _, amount in each.amounts)))
    shapes.append(line("axis", scale.place(0), _TOP / 2, scale.place(0), top))
    keys = bars[0].amounts if bars else ()
    legend = [label(_LEFT + 160 * at, 14, words, "start", f"key {name}") for at, (name, words, _) in enumerate(keys)]
    said = "; ".join(": ".join((row[0], ", ".join(row[1:]))) for row in rows)
    heads = ("", *(words for _, words, _ in keys))
    return Picture(title, frame(id, title, said, top, [*legend, *shapes]), heads, tuple(rows))


# ---- over time -----------------------------------------------------------------------------------


def _over_time(table: ReportTable, by: Column, measured: Column) -> Picture:
    groups = dict(sorted(_groups(table, by).items())[-_MOST_POINTS:])
    bars = []
    for title, rows in groups.items():
        low, high = (rows[0].get(f"{measured.name}_{end}") if len(rows) == 1 else None for end in ("low", "high"))
        interval = None if low is None or high is None else (_whole(low), _whole(high))
        bars.append(Bar(title, (("gain", measured.title, _sum(rows, measured.name)),), interval))
    title = f"{measured.title[:1].upper()}{measured.title[1:]} by {by.title[:1].lower()}{by.title[1:]}"
    return _columns(f"over-{by.name}", title, bars, table.currency)


def _columns(id: str, title: str, bars: Sequence[Bar], currency: str) -> Picture:
    reach = [amount for each in bars for _, _, amount in each.amounts]
    reach += [end for each in bars for end in each.interval or ()]
    scale = Scale.over(reach, _TIME_HEIGHT - _TIME_BOTTOM, 14)
    shapes = []
    for tick in scale.ticks():
        shapes.append(line("grid", _TIME_LEFT, scale.place(tick), WIDTH - 8, scale.place(tick)))
        shapes.append(label(_TIME_LEFT - 6, scale.place(tick) + 4, money(tick, currency), "end", "figure"))
    step = (WIDTH - 8 - _TIME_LEFT) / max(1, len(bars))
    for number, each in enumerate(bars):
        left, amount = _TIME_LEFT + number * step, each.amounts[0][2]
        tip = f"{each.title}: {money(amount, currency)}"
        name = "gain" if amount >= 0 else "loss"
        shapes.append(bar(name, left + step * 0.15, scale.place(0), left + step * 0.85, scale.place(amount), tip))
        if each.interval is not None:
            low, high = map(scale.place, each.interval)
            shapes += whisker(left + step / 2, low, left + step / 2, high, min(4.0, step / 4))
        if number % (-(-len(bars) // _LABELS_ALONG)) == 0:
            shapes.append(label(left + step / 2, _TIME_HEIGHT - 14, each.title, "middle"))
    shapes.append(line("axis", _TIME_LEFT, scale.place(0), WIDTH - 8, scale.place(0)))
    rows = tuple((each.title, money(each.amounts[0][2], currency)) for each in bars)
    said = "; ".join(": ".join(row) for row in rows)
    return Picture(title, frame(id, title, said, _TIME_HEIGHT, shapes), ("", title), rows)


# ---- of machines ---------------------------------------------------------------------------------


def _utilisation(table: ReportTable) -> Picture:
    """Shares of a hundred, whatever they reach."""
    title = "Utilisation"
    scale = Scale(0, 100, _LEFT, WIDTH - _RIGHT)
    shapes, rows = [], []
    for number, record in enumerate(table.records()):
        top = _TOP / 2 + number * (_BAR + _GAP)
        name = next(str(record[column.name]) for column in table.columns if column.dimension)
        share = record["utilization"]
        shown = "unknown" if share is None else percent(share)
        shapes.append(label(_LEFT - 8, top + _BAR - 2, name, "end"))
        shapes.append(bar("idle", scale.place(0), top, scale.place(100), top + _BAR, f"{name}: capacity"))
        if share is not None:
            used = min(100, max(0, round(Decimal(share))))
            shapes.append(bar("spent", scale.place(0), top, scale.place(used), top + _BAR, f"{name}: {shown}"))
        shapes.append(label(WIDTH - 4, top + _BAR - 2, shown, "end", "figure"))
        rows.append((name, shown))
    said = "; ".join(": ".join(row) for row in rows)
    height = _TOP + len(rows) * (_BAR + _GAP)
    return Picture(title, frame("utilisation", title, said, height, shapes), ("", "of capacity"), tuple(rows))


def _sum(rows: Sequence[dict[str, object]], name: str) -> int:
    return sum(_whole(row[name]) for row in rows)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0

"""`break_even_picture`: what machines and APIs cost a day by the requests of the day, on two logarithmic axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from policies.money import NUSD_PER_USD, format_usd
from router.reports.break_even import Curve, Outlook
from router.reports.exports.drawing import WIDTH, Picture, frame, label, line, money

_HEIGHT = 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 250, 18, 52
_LABEL_GAP = 15.0
_COLOURS = 8
"""As many as the style of the page has for curves."""
_LEAST_NUSD = NUSD_PER_USD // 10_000
"""What is less, nothing among it, is drawn at the lower edge."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From 10**`first` to 10**`last`, between two places on the picture."""

    first: int
    last: int
    start: float
    end: float

    def place(self, value: float) -> float:
        share = (log10(value) - self.first) / (self.last - self.first)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def decades(self) -> range:
        return range(self.first, self.last + 1)


def break_even_picture(id: str, outlook: Outlook) -> Picture:
    """With each option's line, the break-evens and the present load. `id` is unique on its page."""
    x = _axis(outlook.requests, _LEFT, WIDTH - _RIGHT)
    costs = (max(nusd, _LEAST_NUSD) / NUSD_PER_USD for one in outlook.curves for nusd in one.nusd_per_day)
    y = _axis(costs, _HEIGHT - _BOTTOM, _TOP)
    title = f"Cost a day of {outlook.hosted.name} and of APIs, by requests a day"
    shapes = [*_grid(x, y), *_present(outlook, x), *_lines(outlook, x, y), *_marks(outlook, x, y)]
    heads = ("requests a day", *(one.name for one in outlook.curves))
    points = zip(outlook.requests, *(one.nusd_per_day for one in outlook.curves), strict=True)
    rows = tuple((f"{count:,}", *(money(nusd, "USD") for nusd in each)) for count, *each in points)
    return Picture(title, frame(id, title, " ".join(_sentences(outlook)), _HEIGHT, shapes), heads, rows)


def _sentences(outlook: Outlook) -> Iterator[str]:
    """What the picture shows, for those who do not see it."""
    yield f"Now {float(outlook.requests_per_day):,.1f} requests a day."
    for found in outlook.break_evens:
        name, api, count = outlook.hosted.name, found.api.name, found.cheaper_from
        yield f"{name} is never cheaper than {api}." if count is None else _tip(name, api, count)


def _tip(name: str, api: str, count: int) -> str:
    return f"{name} is cheaper than {api} from {count:,} requests a day on."


def _axis(values: Iterable[float], start: float, end: float) -> Axis:
    found = list(values) or [1]
    first = floor(log10(min(found)))
    return Axis(first, max(first + 1, ceil(log10(max(found)))), start, end)


def _grid(x: Axis, y: Axis) -> Iterator[str]:
    foot, right = _HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for decade in x.decades():
        at = x.place(10.0**decade)
        yield line("grid", at, _TOP, at, foot)
        yield label(at, foot + 16, _short(10**decade), "middle")
    for decade in y.decades():
        at = y.place(10.0**decade)
        yield line("grid", _LEFT, at, right, at)
        yield label(_LEFT - 6, at + 4, f"${_short_dollars(decade)}", "end")
    yield label((_LEFT + right) / 2, _HEIGHT - 12, "requests a day", "middle")
    yield label(_LEFT + 4, _TOP - 6, "a day")


def _present(outlook: Outlook, x: Axis) -> Iterator[str]:
    at = x.place(float(outlook.requests_per_day))
    yield line("link", at, _TOP, at, _HEIGHT - _BOTTOM)
    yield label(at + 4, _TOP + 10, "now")


def _lines(outlook: Outlook, x: Axis, y: Axis) -> Iterator[str]:
    labels = _apart({one.name: _y(one.nusd_per_day[-1], y) for one in outlook.curves})
    for one, colour in _coloured(outlook):
        places = zip(outlook.requests, one.nusd_per_day, strict=True)
        points = " ".join(f"{x.place(count):.1f},{_y(nusd, y):.1f}" for count, nusd in places)
        yield f'<polyline class="{colour}{" hosted" if one.hosted else ""}" points="{points}"/>'
        yield label(WIDTH - _RIGHT + 8, labels[one.name] + 4, one.name, name=colour)


def _marks(outlook: Outlook, x: Axis, y: Axis) -> Iterator[str]:
    colours = {one.name: colour for one, colour in _coloured(outlook)}
    for found in outlook.break_evens:
        if found.cheaper_from is not None:
            cost = round(found.api.nusd_per_day(found.cheaper_from))
            place = f'cx="{x.place(found.cheaper_from):.1f}" cy="{_y(cost, y):.1f}"'
            tip = _tip(outlook.hosted.name, found.api.name, found.cheaper_from)
            yield f'<circle class="{colours[found.api.name]}" {place} r="4.5"><title>{escape(tip)}</title></circle>'


def _coloured(outlook: Outlook) -> Iterator[tuple[Curve, str]]:
    """Each curve and the class of its colour."""
    for at, one in enumerate(outlook.curves):
        yield one, f"curve curve-{at % _COLOURS}"


def _apart(ends: dict[str, float]) -> dict[str, float]:
    """Where to write each name: near the end of its line, and none on another; from the foot upwards."""
    found: dict[str, float] = {}
    below = float(_HEIGHT - _BOTTOM) + _LABEL_GAP
    for name, end in sorted(ends.items(), key=lambda item: -item[1]):
        below = min(end, below - _LABEL_GAP)
        found[name] = below
    return found


def _y(nusd: int, y: Axis) -> float:
    return y.place(max(nusd, _LEAST_NUSD) / NUSD_PER_USD)


def _short(count: int) -> str:
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count // unit}{name}"
    return str(count)


def _short_dollars(decade: int) -> str:
    return _short(10**decade) if decade >= 0 else format_usd(NUSD_PER_USD // 10**-decade)

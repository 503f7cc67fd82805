"""Curves on two logarithmic axes as SVG: written by hand, without a library, a font or an address outside the text.

Text and axes have the colour of the page around them, so that they can be read on light and dark ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from policies.money import NUSD_PER_USD, format_usd
from router.reports.break_even import Curve, Outlook

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 190, 18, 52
_LABEL_GAP = 15.0
_LABEL_LETTERS = 26
_COLOURS = ("#2f6fde", "#d1495b", "#2a9d62", "#c77d0a", "#7b5cc9", "#0e8f9e", "#a0522d", "#6b7280")
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


def break_even_svg(outlook: Outlook) -> str:
    """What the machines and each API cost a day by the requests of the day; their break-evens, and the present load."""
    x = _axis(outlook.requests, _LEFT, _WIDTH - _RIGHT)
    costs = (max(nusd, _LEAST_NUSD) / NUSD_PER_USD for one in outlook.curves for nusd in one.nusd_per_day)
    y = _axis(costs, _HEIGHT - _BOTTOM, _TOP)
    title = f"Cost a day of {outlook.hosted.name} and of APIs, by requests a day"
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="currentColor"'
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}" {style}>',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(' '.join(_sentences(outlook)))}</desc>",
        *_grid(x, y),
        *_present(outlook, x),
        *_lines(outlook, x, y),
        *_marks(outlook, x, y),
        "</svg>",
    ]
    return "\n".join(parts)


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
    for decade in x.decades():
        at = x.place(10.0**decade)
        yield _line(at, _TOP, at, _HEIGHT - _BOTTOM, 'stroke="currentColor" stroke-opacity="0.12"')
        yield _text(at, _HEIGHT - _BOTTOM + 16, _short(10**decade), "middle")
    for decade in y.decades():
        at = y.place(10.0**decade)
        yield _line(_LEFT, at, _WIDTH - _RIGHT, at, 'stroke="currentColor" stroke-opacity="0.12"')
        yield _text(_LEFT - 6, at + 4, f"${_short_dollars(decade)}", "end")
    yield _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, "requests a day", "middle")
    yield _text(_LEFT + 4, _TOP - 6, "a day", "start")


def _present(outlook: Outlook, x: Axis) -> Iterator[str]:
    if outlook.requests_per_day > 0:
        at = x.place(float(outlook.requests_per_day))
        yield _line(at, _TOP, at, _HEIGHT - _BOTTOM, 'stroke="currentColor" stroke-dasharray="4 4"')
        yield _text(at + 4, _TOP + 10, "now", "start")


def _lines(outlook: Outlook, x: Axis, y: Axis) -> Iterator[str]:
    ends = {one.name: _y(one.nusd_per_day[-1], y) for one in outlook.curves}
    labels = _apart(ends)
    for one, colour in zip(outlook.curves, _colours(outlook.curves), strict=True):
        places = zip(outlook.requests, one.nusd_per_day, strict=True)
        points = " ".join(f"{x.place(count):.1f},{_y(nusd, y):.1f}" for count, nusd in places)
        width = "3" if one.hosted else "1.8"
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        at = _WIDTH - _RIGHT + 8
        name = one.name if len(one.name) <= _LABEL_LETTERS else f"{one.name[: _LABEL_LETTERS - 1]}…"
        yield _text(at, labels[one.name] + 4, name, "start", f'fill="{colour}"')


def _marks(outlook: Outlook, x: Axis, y: Axis) -> Iterator[str]:
    colours = {one.name: colour for one, colour in zip(outlook.curves, _colours(outlook.curves), strict=True)}
    for found in outlook.break_evens:
        if found.cheaper_from is not None:
            cost = round(found.api.nusd_per_day(found.cheaper_from))
            place = f'cx="{x.place(found.cheaper_from):.1f}" cy="{_y(cost, y):.1f}"'
            tip = _tip(outlook.hosted.name, found.api.name, found.cheaper_from)
            yield (
                f'<circle {place} r="4.5" fill="{colours[found.api.name]}" stroke="currentColor">'
                f"<title>{escape(tip)}</title></circle>"
            )


def _colours(curves: Sequence[Curve]) -> list[str]:
    return [_COLOURS[at % len(_COLOURS)] for at in range(len(curves))]


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


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(text)}</text>'


def _short(count: int) -> str:
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count // unit}{name}"
    return str(count)


def _short_dollars(decade: int) -> str:
    return _short(10**decade) if decade >= 0 else format_usd(NUSD_PER_USD // 10**-decade)

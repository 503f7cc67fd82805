"""Pictures as SVG text: scales, shapes, and a frame that says in words what is to be seen. No library, font or address.

Colours are classes, which the style of the page gives for light, dark and paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

from policies.money import NUSD_PER_USD, format_usd

WIDTH = 760
_LABEL_LETTERS = 34
_TICKS = 5
_PLACES = ((NUSD_PER_USD, 2), (NUSD_PER_USD // 100, 4), (NUSD_PER_USD // 1_000_000, 6), (1, 9), (0, 2))
"""Of amounts from these on: what is something is never shown as nothing."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`heads` and `rows` are its table, for those who do not see it and those who want the figures."""

    title: str
    svg: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high`, between two places on the picture. Places are floats; values need not be."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[int], start: float, end: float) -> Scale:
        """Nothing is always on it, so that lengths can be compared."""
        low, high = min([0, *values]), max([0, *values])
        return cls(low, high if high > low else low + 1, start, end)

    def place(self, value: int) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[int]:
        """About five round values."""
        rough = (self.high - self.low) / _TICKS
        unit = 10 ** floor(log10(rough)) if rough >= 1 else 1
        step = next((times * unit for times in (1, 2, 5) if times * unit >= rough), 10 * unit)
        first = -(-self.low // step)
        return [number * step for number in range(first, self.high // step + 1)]


def frame(id: str, title: str, description: str, height: float, shapes: Sequence[str]) -> str:
    """The picture. `id` is unique on its page."""
    named = f'role="img" aria-labelledby="{id}-title {id}-desc"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" {named} class="picture">',
            f'<title id="{id}-title">{escape(title)}</title>',
            f'<desc id="{id}-desc">{escape(description)}</desc>',
            *shapes,
            "</svg>",
        ]
    )


def bar(name: str, left: float, top: float, right: float, bottom: float, tip: str) -> str:
    """Between two places of a scale, in whichever order they come."""
    x, width = min(left, right), abs(right - left)
    y, height = min(top, bottom), abs(bottom - top)
    return (
        f'<rect class="{name}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}">'
        f"<title>{escape(tip)}</title></rect>"
    )


def line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def whisker(x1: float, y1: float, x2: float, y2: float, half: float = 4.0) -> list[str]:
    """An interval, with a stroke across each of its ends."""
    if y1 == y2:
        ends = [(x1, y1 - half, x1, y1 + half), (x2, y2 - half, x2, y2 + half)]
    else:
        ends = [(x1 - half, y1, x1 + half, y1), (x2 - half, y2, x2 + half, y2)]
    return [line("whisker", *place) for place in ((x1, y1, x2, y2), *ends)]


def label(x: float, y: float, words: str, anchor: str = "start", name: str = "label") -> str:
    """Long words are cut short, and whole in their tip."""
    shown = words if len(words) <= _LABEL_LETTERS else f"{words[: _LABEL_LETTERS - 1]}…"
    tip = "" if shown == words else f"<title>{escape(words)}</title>"
    return f'<text class="{name}" x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{tip}{escape(shown)}</text>'


def money(amount: int, currency: str) -> str:
    """With as many places as its size needs, and its thousands apart: $1,234.50, $0.1234, $0.001234, $0.000000012."""
    text = format_usd(amount, next(places for least, places in _PLACES if abs(amount) >= least))
    whole, point, fraction = text.lstrip("-").partition(".")
    sign = "−" if text.startswith("-") else ""
    return f"{sign}{'$' if currency == 'USD' else currency + ' '}{int(whole):,}{point}{fraction}"


def percent(share: object) -> str:
    """With the same minus as amounts of money have."""
    return f"{share} %".replace("-", "−")

"""Cost against quality, as text and as SVG: what any threshold would do, and the settings marked on it."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from policies.money import NUSD_PER_USD, format_usd
from router.replay.forecast import Forecast, Outcome

_COLUMNS, _ROWS = 64, 16
_WIDTH, _HEIGHT = 860, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 190, 48, 58
_PPM = 1_000_000
_TICKS = 5


@dataclass(frozen=True, slots=True)
class _Frame:
    """The ranges that the picture shows: nano-USD and millionths, each wider than nothing."""

    least_cost: int
    most_cost: int
    least_good: int
    most_good: int

    def across(self, cost: int) -> float:
        return (cost - self.least_cost) / (self.most_cost - self.least_cost)

    def up(self, good: int) -> float:
        return (good - self.least_good) / (self.most_good - self.least_good)


def _frame(forecast: Forecast) -> _Frame:
    costs = [point.cost_nusd for point in forecast.curve] + [each.cost_nusd.value for each in forecast.outcomes]
    costs.append(forecast.paid_nusd)
    goods = [point.as_good_ppm for point in forecast.curve] + [each.as_good_ppm.value for each in forecast.outcomes]
    least_good = min(goods) // 50_000 * 50_000
    return _Frame(0, max(*costs, 1), min(least_good, _PPM - 50_000), _PPM)


def dollars(nusd: int) -> str:
    """To the cent, and finer below a dollar: a sample of a log may cost next to nothing."""
    return f"{'-' if nusd < 0 else ''}${format_usd(abs(nusd), 6 if 0 < abs(nusd) < NUSD_PER_USD else 2)}"


def as_text(forecast: Forecast) -> str:
    """For a terminal: `.` any threshold, a letter each setting, `$` beneath what was paid."""
    frame = _frame(forecast)
    cells = [[" "] * _COLUMNS for _ in range(_ROWS)]
    for point in forecast.curve:
        _put(cells, frame, point.cost_nusd, point.as_good_ppm, "·")
    for letter, outcome in _lettered(forecast):
        _put(cells, frame, outcome.cost_nusd.value, outcome.as_good_ppm.value, letter)
    lines = []
    for row, cell in enumerate(cells):
        good = frame.most_good - (frame.most_good - frame.least_good) * row // (_ROWS - 1)
        label = f"{good / 10_000:6.1f}%" if row % 5 == 0 else " " * 7
        lines.append(f"{label} │{''.join(cell).rstrip()}")
    lines.append(" " * 8 + "└" + "─" * _COLUMNS)
    paid = " " * 9 + " " * round(frame.across(forecast.paid_nusd) * (_COLUMNS - 1)) + "$ was paid"
    ends = (dollars(frame.least_cost), dollars(frame.most_cost))
    lines.append(" " * 9 + ends[0] + ends[1].rjust(_COLUMNS - len(ends[0])))
    names = [f"{letter} {outcome.setting.name}" for letter, outcome in _lettered(forecast)]
    return "\n".join(["expected share of answers as good as the baseline's, by cost", *lines, paid, "   ".join(names)])


def _lettered(forecast: Forecast) -> list[tuple[str, Outcome]]:
    return [(chr(ord("A") + at), outcome) for at, outcome in enumerate(forecast.outcomes[:26])]


def _put(cells: list[list[str]], frame: _Frame, cost: int, good: int, mark: str) -> None:
    column = round(frame.across(cost) * (_COLUMNS - 1))
    row = round((1 - frame.up(good)) * (_ROWS - 1))
    cells[row][column] = mark


# ---- SVG -----------------------------------------------------------------------------------------


def as_svg(forecast: Forecast) -> str:
    """One picture without scripts, fonts or addresses: it opens anywhere."""
    frame = _frame(forecast)
    path = " ".join(f"{_x(frame, p.cost_nusd):.1f},{_y(frame, p.as_good_ppm):.1f}" for p in forecast.curve)
    paid = _x(frame, forecast.paid_nusd)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'font-family="sans-serif" font-size="13" fill="#222">'
        ),
        "<title>Cost against quality</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="26" font-size="16">Cost against expected quality, alias {escape(forecast.alias)}</text>',
        *_axes(frame),
        (
            f'<line x1="{paid:.1f}" y1="{_TOP}" x2="{paid:.1f}" y2="{_HEIGHT - _BOTTOM}" stroke="#b33" '
            f'stroke-dasharray="5 4"/>'
        ),
        f'<text x="{paid - 6:.1f}" y="{_HEIGHT - _BOTTOM - 8}" text-anchor="end" fill="#b33">was paid</text>',
        f'<polyline points="{path}" fill="none" stroke="#2a6f97" stroke-width="2"/>',
    ]
    for at, outcome in enumerate(forecast.outcomes):
        parts.extend(_mark(frame, outcome, at))
    return "\n".join([*parts, "</svg>", ""])


def _axes(frame: _Frame) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#888"/>']
    for tick in range(_TICKS + 1):
        cost = frame.least_cost + (frame.most_cost - frame.least_cost) * tick // _TICKS
        good = frame.least_good + (frame.most_good - frame.least_good) * tick // _TICKS
        y = _y(frame, good)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#eee"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{good / 10_000:.1f}%</text>')
        x = _x(frame, cost)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{dollars(cost)}</text>')
    parts.append(f'<text x="{(_LEFT + right) // 2}" y="{_HEIGHT - 14}" text-anchor="middle">cost of the log</text>')
    middle = (_TOP + bottom) // 2
    parts.append(
        f'<text transform="translate(22 {middle}) rotate(-90)" text-anchor="middle">'
        "answers as good as the baseline's, expected</text>"
    )
    return parts


def _mark(frame: _Frame, outcome: Outcome, at: int) -> list[str]:
    """A point with the interval of its cost, and its name in the legend."""
    x, y = _x(frame, outcome.cost_nusd.value), _y(frame, outcome.as_good_ppm.value)
    low, high = (_x(frame, cost) for cost in (outcome.cost_nusd.low, outcome.cost_nusd.high))
    letter, legend = chr(ord("A") + at % 26), _TOP + 18 * at + 6
    return [
        f'<line x1="{low:.1f}" y1="{y:.1f}" x2="{high:.1f}" y2="{y:.1f}" stroke="#e07a1f" stroke-width="2"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#e07a1f"/>',
        f'<text x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle" font-size="11">{letter}</text>',
        f'<text x="{_WIDTH - _RIGHT + 16}" y="{legend}">{letter}  {escape(outcome.setting.name)}</text>',
    ]


def _x(frame: _Frame, cost: int) -> float:
    return _LEFT + min(max(frame.across(cost), 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _y(frame: _Frame, good: int) -> float:
    return _TOP + (1 - frame.up(good)) * (_HEIGHT - _TOP - _BOTTOM)

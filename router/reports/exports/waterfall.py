"""From what the baseline would have cost to what was spent: each driver begins where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from router.reports.exports.drawing import WIDTH, Picture, Scale, bar, frame, label, line, money

_LEFT, _RIGHT, _ROW, _BAR, _TOP = 240, 120, 30, 18, 14


@dataclass(frozen=True, slots=True)
class Step:
    """From `start` to `end`, in billionths of the currency. `name` is the class of its colour."""

    title: str
    start: int
    end: int
    name: str


def steps(counterfactual: int, drivers: Mapping[str, int], spent: int) -> tuple[Step, ...]:
    """`drivers` are what each saved, by its title; what costs is negative. Those of nothing are left out.

    They add up to the difference: a waterfall that does not arrive would be a lie.
    """
    found = [Step("on the baseline", 0, counterfactual, "baseline")]
    at = counterfactual
    for title, saved in drivers.items():
        if saved:
            found.append(Step(title, at, at - saved, "gain" if saved > 0 else "loss"))
            at -= saved
    assert at == spent, f"the drivers lead to {at}, not to {spent}"
    return (*found, Step("spent", 0, spent, "spent"))


def waterfall(id: str, found: Sequence[Step], currency: str) -> Picture:
    title = "From the baseline to what was spent"
    height = 2 * _TOP + _ROW * len(found)
    scale = Scale.over([place for step in found for place in (step.start, step.end)], _LEFT, WIDTH - _RIGHT)
    shapes = [line("axis", scale.place(0), _TOP / 2, scale.place(0), height - _TOP / 2)]
    for number, step in enumerate(found):
        shapes += _row(step, _TOP + number * _ROW, scale, currency)
        if number < len(found) - 2:
            below = _TOP + (number + 1) * _ROW
            shapes.append(line("link", scale.place(step.end), below - _ROW + _BAR, scale.place(step.end), below))
    rows = tuple((step.title, _amount(step, currency)) for step in found)
    said = "; ".join(f"{name}: {amount}" for name, amount in rows)
    return Picture(title, frame(id, title, said, height, shapes), ("", currency), rows)


def _row(step: Step, top: float, scale: Scale, currency: str) -> Iterator[str]:
    middle = top + _BAR / 2 + 4
    amount = _amount(step, currency)
    yield label(_LEFT - 8, middle, step.title, "end")
    yield bar(step.name, scale.place(step.start), top, scale.place(step.end), top + _BAR, f"{step.title}: {amount}")
    yield label(WIDTH - 4, middle, amount, "end", "figure")


def _amount(step: Step, currency: str) -> str:
    change = step.end - step.start
    return money(change, currency) if step.start == 0 or change <= 0 else f"+{money(change, currency)}"

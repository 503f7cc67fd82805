"""What budgets cost on the hot path: Parsimony with none on a request beside Parsimony with ten, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
from rich.table import Table

from tests.benchmarks.overhead.measure import Bench, Throughput
from tests.benchmarks.overhead.table import error_text
from tests.benchmarks.overhead.targets import Parsimony, run_cli

KEY: Final = "budgets"
ROUNDS: Final = 6
ROUND_SHARE: Final = 0.5
"""The length of a round, as a share of a load's."""
WARM_UP_S: Final = 1.0
END_USER: Final = "ann"
MANY: Final = "1000000000"
MUCH: Final = "1000000"
TEN_BUDGETS: Final = (
    ("organization", MUCH),
    ("team", "bench", MUCH),
    ("project", "bench-chat", MUCH, "--window", "quarter"),
    ("key", "{key}", MUCH, "--window", "day", "--timezone", "Asia/Shanghai"),
    ("user", "bench/*", MUCH),
    ("tag", "nightly", MUCH, "--window", "week"),
    ("key", "{key}", MANY, "--unit", "requests", "--window", "minute"),
    ("key", "{key}", MANY, "--unit", "tokens", "--window", "minute"),
    ("team", "bench", MUCH, "--window", "rolling:24h"),
    ("team", "bench", MANY, "--unit", "parallel"),
)
"""One of each kind, all hard, none ever reached."""


@dataclass(frozen=True, slots=True)
class Unlimited(Parsimony):
    """A key to which no budget applies."""

    name: str = "Parsimony, no budget"
    budgets: Sequence[Sequence[str]] = ()

    def credential(self, folder: Path) -> str:
        """See Target. The key's requests name an end user and have a tag, limited or not."""
        run_cli(folder, "teams", "create", "bench")
        run_cli(folder, "projects", "create", "bench-chat", "--team", "bench")
        about = ("--team", "bench", "--project", "bench-chat", "--trusted", "--tag", "nightly")
        made = orjson.loads(run_cli(folder, "keys", "create", "--name", "benchmark", "--json", *about))
        for budget in self.budgets:
            run_cli(folder, "budgets", "set", *[part.format(key=made["key"]["id"]) for part in budget])
        return str(made["secret"])


@dataclass(frozen=True, slots=True)
class Limited(Unlimited):
    """A key to which ten budgets of ten kinds apply."""

    name: str = "Parsimony, ten budgets"
    budgets: Sequence[Sequence[str]] = TEN_BUDGETS


@dataclass(slots=True)
class Comparison:
    """The rounds of both; `note` says what went wrong."""

    unlimited: list[Throughput] = field(default_factory=list)
    limited: list[Throughput] = field(default_factory=list)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Throughput with ten budgets over that with none: the median of the rounds, each beside its neighbour."""
        return self._median_ratio(lambda limited, unlimited: (limited.per_second, unlimited.per_second))

    @property
    def cpu_ratio(self) -> float | None:
        """The same by the worker's CPU time an answer: what the ratio would be if each had its cores to itself."""
        return self._median_ratio(lambda limited, unlimited: (unlimited.cpu_us or 0.0, limited.cpu_us or 0.0))

    def _median_ratio(self, figures: Callable[[Throughput, Throughput], tuple[float, float]]) -> float | None:
        """None where something went wrong, or one of them answered nothing."""
        pairs = [figures(*pair) for pair in zip(self.limited, self.unlimited, strict=not self.note)]
        if self.note or not pairs or any(base <= 0 for _, base in pairs):
            return None
        return statistics.median(figure / base for figure, base in pairs)


def compare(bench: Bench, seconds: float, report: Callable[[str], None]) -> Comparison:
    """Both servers run all the while; they are loaded in turns, and who goes first takes turns, too."""
    comparison = Comparison()
    sides = ((Unlimited(), comparison.unlimited), (Limited(), comparison.limited))
    try:
        with ExitStack() as stack:
            report("budgets: starting")
            running = [(stack.enter_context(bench.running(target)), rounds) for target, rounds in sides]
            for endpoint, _ in running:
                bench.throughput(endpoint, stream=False, seconds=min(WARM_UP_S, seconds), user=END_USER)
            report("budgets: none and ten, in turns")
            for number in range(ROUNDS):
                for endpoint, rounds in running if number % 2 else reversed(running):
                    rounds.append(
                        bench.throughput(endpoint, stream=False, seconds=seconds * ROUND_SHARE, user=END_USER)
                    )
    except RuntimeError as error:
        comparison.note = " ".join(str(error).split())[-300:]
    return comparison


def render(comparison: Comparison) -> Table:
    """The pair of rows, and the ratio below the second."""
    table = Table(title=f"What ten budgets cost: {ROUNDS} rounds in turns, medians", show_lines=True)
    for heading in ("proxy", "requests/s", "µs CPU an answer", "of the first"):
        table.add_column(heading, justify="left" if heading == "proxy" else "right")
    if comparison.note:
        table.add_row(comparison.note, "", "", "")
        return table
    compared = [(comparison.ratio, ""), (comparison.cpu_ratio, " by CPU")]
    ratios = "\n".join([f"[bold]{ratio:.2f}×[/bold]{what}" for ratio, what in compared if ratio is not None])
    for target, rounds, last in ((Unlimited(), comparison.unlimited, ""), (Limited(), comparison.limited, ratios)):
        errors = [error_text(each.errors) for each in rounds if each.errors]
        table.add_row(
            "\n".join([target.name, *[f"[red]{error}[/red]" for error in errors]]),
            f"{statistics.median(each.per_second for each in rounds):,.0f}",
            f"{statistics.median(each.cpu_us or 0.0 for each in rounds):,.0f}",
            last,
        )
    return table

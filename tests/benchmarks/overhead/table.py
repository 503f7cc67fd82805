"""The one table of a run: each figure with its ratio to the bare pass-through and to LiteLLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from tests.benchmarks.overhead.measure import Latency, Row, Throughput

YARDSTICK = "aiohttp"
LITELLM = "litellm"
LABELS = {YARDSTICK: "aiohttp", LITELLM: "LiteLLM"}
BUSY_ENOUGH = 0.85
MEGABYTE = 1_000_000
Figure = Callable[[Row], float | None]


def render(rows: Sequence[Row], connections: int, rate: float) -> Table:
    """A rich table of the rows that were measured."""
    table = Table(title="What a proxy costs: one core for the proxy, upstream on loopback", show_lines=True)
    table.add_column("proxy")
    headings = (
        f"requests/s\n{connections} connections",
        "streams/s\n20 chunks at once",
        "streams/s\none by one",
        f"added p50, ms\nat {rate:.0f}/s",
        f"added p99, ms\nat {rate:.0f}/s",
        "first chunk\nadded p50, ms",
        "first chunk\nadded p99, ms",
        "ready\nafter s",
        "worker MB\nRSS (PSS)",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    by_key = {row.key: row for row in rows}
    for row in rows:
        if row.note:
            table.add_row(row.name, *[""] * len(headings))
        else:
            table.add_row(row.name, *cells(row, by_key, rate))
    return table


def notes(rows: Sequence[Row]) -> list[str]:
    """What the table cannot say: what is missing, and every error with its load."""
    lines = [f"{row.name}: {row.note}" for row in rows if row.note]
    for row in rows:
        loads = {"warm-up": row.start_errors}
        for label in ("whole", "streams", "streams_one_by_one", "answer", "first_event"):
            measured = getattr(row, label)
            loads[label] = measured.errors if measured else {}
        for label, errors in loads.items():
            if errors:
                lines.append(f"{row.name}, {label.replace('_', ' ')}: {error_text(errors)}")
    return lines


def cells(row: Row, by_key: dict[str, Row], rate: float) -> list[str]:
    """One row's cells after its name."""
    return [
        _throughput(row, by_key, lambda each: each.whole),
        _throughput(row, by_key, lambda each: each.streams),
        _throughput(row, by_key, lambda each: each.streams_one_by_one),
        *_latency(row, by_key, rate, lambda each: each.answer),
        *_latency(row, by_key, rate, lambda each: each.first_event),
        "" if row.ready_s is None else f"{row.ready_s:.2f}",
        "" if row.memory is None else f"{row.memory.rss / MEGABYTE:.0f} ({row.memory.pss / MEGABYTE:.0f})",
    ]


def _throughput(row: Row, by_key: dict[str, Row], pick: Callable[[Row], Throughput | None]) -> str:
    measured = pick(row)
    if measured is None:
        return ""
    lines = [f"[bold]{measured.per_second:,.0f}[/bold]"]
    lines += [f"[dim]{ratio}[/dim]" for ratio in ratios(row, by_key, lambda each: _per_second(pick(each)))]
    if measured.cpu_us is not None and measured.core_share is not None:
        lines.append(f"{measured.cpu_us:,.0f} µs CPU")
        lines += [
            f"[dim]{ratio}[/dim]" for ratio in ratios(row, by_key, lambda each: _cpu_us(pick(each)), (YARDSTICK,))
        ]
        if measured.core_share < BUSY_ENOUGH:
            lines.append(f"[yellow]{measured.core_share:.0%} of its core[/yellow]")
    if measured.errors:
        lines.append(f"[red]{error_text(measured.errors)}[/red]")
    return "\n".join(lines)


def _latency(row: Row, by_key: dict[str, Row], rate: float, pick: Callable[[Row], Latency | None]) -> list[str]:
    measured = pick(row)
    if measured is None:
        return ["", ""]
    held = [] if measured.rate == rate else [f"[yellow]at {measured.rate:.0f}/s[/yellow]"]
    failed = [f"[red]{error_text(measured.errors)}[/red]"] if measured.errors else []
    columns = (
        (measured.direct_p50_us, measured.through_p50_us, lambda each: _added(pick(each), 50)),
        (measured.direct_p99_us, measured.through_p99_us, lambda each: _added(pick(each), 99)),
    )
    return [
        "\n".join(
            [
                f"[bold]{(through - direct) / 1_000:,.2f}[/bold]",
                f"[dim]{direct / 1_000:,.2f} → {through / 1_000:,.2f}[/dim]",
                *(f"[dim]{ratio}[/dim]" for ratio in ratios(row, by_key, figure, (YARDSTICK,))),
                *held,
                *failed,
            ]
        )
        for direct, through, figure in columns
    ]


def ratios(row: Row, by_key: dict[str, Row], figure: Figure, keys: Sequence[str] = tuple(LABELS)) -> list[str]:
    """`figure` as a multiple of the yardstick's and of LiteLLM's, where those were measured."""
    own, lines = figure(row), []
    for key in keys:
        base = figure(by_key[key]) if key in by_key and key != row.key else None
        if own is not None and base is not None and base > 0 and own > 0:
            lines.append(f"{short(own / base)}× {LABELS[key]}")
    return lines


def short(ratio: float) -> str:
    """A ratio with two digits that matter."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def error_text(errors: dict[str, int]) -> str:
    """Errors by kind, most frequent first."""
    return ", ".join(f"{number:,} {kind}" for kind, number in sorted(errors.items(), key=lambda item: -item[1]))


def _per_second(measured: Throughput | None) -> float | None:
    return measured.per_second if measured else None


def _cpu_us(measured: Throughput | None) -> float | None:
    return measured.cpu_us if measured else None


def _added(measured: Latency | None, percentile: int) -> float | None:
    if measured is None:
        return None
    return measured.added_p50_us if percentile == 50 else measured.added_p99_us

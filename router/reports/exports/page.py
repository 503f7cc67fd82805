"""`html_page`: a report as one file that anybody can open, print and keep. It asks no server for anything.

Whatever it shows of the ledger was named by somebody: every word is escaped, and the page's own policy lets nothing
but its style be used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from policies.money import NUSD_PER_USD, format_usd
from router.reports.exports.drawing import Picture, money, percent
from router.reports.exports.pictures import pictures_of
from router.reports.periods import local_text
from router.reports.tables import Column, ReportTable, Value
from router.stores.entries import as_iso
from router.version import parsimony_version

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = Path(__file__).with_name("page.css")
_SUMS = (
    ("counterfactual", "on the baseline"),
    ("effective_cost", "spent"),
    ("savings", "saved"),
    ("charged", "charged"),
)


def html_page(table: ReportTable, curves: Sequence[Picture] = ()) -> bytes:
    """`curves` are further pictures, which the table alone does not hold."""
    title = f"{table.title}: {_span(table)}"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>",
        *_head(table),
        "<main>",
        *_sums(table),
        *map(_figure, (*pictures_of(table), *curves)),
        *_tables(table),
        *_basis(table),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts).encode()


def _span(table: ReportTable) -> str:
    start, end = (local_text(at, table.timezone)[:16].replace("T", " ") for at in (table.from_ms, table.to_ms))
    return f"{start} to {end} {table.timezone}"


def _head(table: ReportTable) -> Iterator[str]:
    only = "".join(f", {name} {value}" for name, value in table.filters)
    yield f'<header>\n<h1>{escape(table.title)}</h1>\n<p class="when">{escape(_span(table) + only)}</p>'
    if table.simulated:
        yield '<p class="simulated">SIMULATED: some of this was answered by simulated models, and paid to nobody.</p>'
    yield "</header>"


def _sums(table: ReportTable) -> Iterator[str]:
    """The figures that people came for, with their intervals."""
    total = table.total_record()
    shown = [(name, words) for name, words in _SUMS if isinstance(total.get(name), int)]
    if not shown:
        return
    yield '<dl class="sums">'
    for name, words in shown:
        notes = [*_interval(table, name), *([percent(total["savings_percent"])] if _has_share(table, name) else [])]
        small = f"<small>{escape(', '.join(notes))}</small>" if notes else ""
        amount = escape(money(_whole(total[name]), table.currency))
        yield f"<div><dt>{words}</dt><dd>{amount}{small}</dd></div>"
    yield "</dl>"


def _has_share(table: ReportTable, name: str) -> bool:
    return name == "savings" and table.total_record().get("savings_percent") is not None


def _interval(table: ReportTable, name: str) -> Iterator[str]:
    total = table.total_record()
    low, high = (total.get(f"{name}_{end}") for end in ("low", "high"))
    if isinstance(low, int) and isinstance(high, int):
        yield f"{money(low, table.currency)} to {money(high, table.currency)}, with 95 % confidence"


def _figure(picture: Picture) -> str:
    heads = "".join(_head_of_figure(at, head) for at, head in enumerate(picture.heads))
    rows = "".join(
        f'<tr><th scope="row" class="name">{escape(row[0])}</th>'
        + "".join(f'<td class="number">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>\n"
        for row in picture.rows
    )
    return (
        f"<figure>\n<figcaption>{escape(picture.title)}</figcaption>\n{picture.svg}\n"
        "<details><summary>The same as a table</summary>\n"
        + _scrolled(picture.title, f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>")
        + "</details>\n</figure>"
    )


def _head_of_figure(at: int, head: str) -> str:
    """What heads nothing is no heading, which would be read out."""
    kind = ' class="number"' if at else ""
    return f'<th scope="col"{kind}>{escape(head)}</th>' if head else "<td></td>"


def _scrolled(name: str, inner: str) -> str:
    """A table that may be wider than the page: it can be moved by the keyboard, too, and says what it is."""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0"><table>\n{inner}\n</table></div>'
    )


def _tables(table: ReportTable) -> Iterator[str]:
    """The columns that matter most, then all of them where there are more."""
    yield "<h2>In figures</h2>"
    if not table.rows:
        yield '<p class="soft">Nothing in this time.</p>'
        return
    main = [at for at, column in enumerate(table.columns) if not column.detail]
    yield _grid(table, main, table.title)
    if len(main) < len(table.columns):
        every = _grid(table, range(len(table.columns)), f"{table.title}, every column")
        yield f"<details><summary>Every column</summary>\n{every}\n</details>"


def _grid(table: ReportTable, shown: Sequence[int], caption: str) -> str:
    columns = [table.columns[at] for at in shown]
    heads = "".join(_heading(column) for column in columns)
    rows = "\n".join(_row(columns, [row[at] for at in shown]) for row in table.rows)
    total = ""
    if table.total is not None and len(table.rows) > 1:
        total = f"\n<tfoot>\n{_row(columns, [table.total[at] for at in shown])}\n</tfoot>"
    words = f"<caption>{escape(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n"
    return _scrolled(caption, f"{words}<tbody>\n{rows}\n</tbody>{total}")


def _heading(column: Column) -> str:
    tip = f' title="{escape(column.description)}"' if column.description else ""
    return f'<th scope="col" class="{_kind(column)}"{tip}>{escape(column.title)}</th>'


def _kind(column: Column) -> str:
    return "name" if column.kind in ("text", "instant") else "number"


def _row(columns: Sequence[Column], values: Sequence[Value]) -> str:
    cells = (
        f'<th scope="row" class="name">{escape(_shown(column, value))}</th>'
        if column.dimension
        else f'<td class="{_kind(column)}"{_exact(column, value)}>{escape(_shown(column, value))}</td>'
        for column, value in zip(columns, values, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _exact(column: Column, value: Value) -> str:
    """To the last billionth, for who points at it."""
    if column.kind != "money" or value is None or _whole(value) % (NUSD_PER_USD // 100) == 0:
        return ""
    return f' title="{format_usd(_whole(value))} {escape(column.unit)}"'


def _shown(column: Column, value: Value) -> str:
    if value is None:
        return "" if column.dimension else "–"
    if column.kind == "money":
        return money(_whole(value), column.unit)
    if column.kind == "count":
        return f"{value:,}"
    if column.kind == "instant":
        return str(as_iso(_whole(value)))
    return percent(value) if column.kind == "percent" else str(value)


def _whole(value: object) -> int:
    assert isinstance(value, int), f"{value!r} is no whole number"
    return value


def _basis(table: ReportTable) -> Iterator[str]:
    yield "<h2>What this rests on</h2>\n<ul>"
    yield from (f"<li>{escape(sentence)}</li>" for sentence in table.basis)
    yield "</ul>"
    made = table.provenance
    facts = [("made", f"{as_iso(table.generated_at_ms)} by Parsimony {parsimony_version()}")]
    if made.prices_sha256:
        facts.append(("price file", f"SHA-256 {made.prices_sha256}"))
    if made.estimators:
        facts.append(("estimators", ", ".join(made.estimators)))
    if made.ledger_until_ms is not None:
        facts.append(("ledger until", str(as_iso(made.ledger_until_ms))))
    facts += [(f"hours closed, {source}", str(as_iso(end_ms))) for source, end_ms in made.closed_until_ms.items()]
    yield "<details open><summary>Where it comes from</summary>\n<table>\n<tbody>"
    for name, fact in facts:
        yield f'<tr><th scope="row" class="name">{escape(name)}</th><td><code>{escape(fact)}</code></td></tr>'
    yield "</tbody>\n</table></details>"

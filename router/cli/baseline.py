"""`parsimony baseline`: how good is the estimate of what the baseline would have cost?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from classifiers import registry
from classifiers.base import DEFAULT_CLASSIFIER
from policies.money import format_usd
from router.answer_lengths import answer_lengths_beside
from router.cli.admin import now, print_json
from router.cli.options import USAGE, ConfigOption, JsonOption, fail
from router.config import default_config_path, load_config
from router.errors import ParsimonyError
from router.prices import ModelInfo, PriceBook, UnknownModel, load_prices
from router.reports.recorded import Evaluation, Pair, Score, evaluate, evaluation_as_json, read_recorded
from router.tokenizers import TokenCounter

app = typer.Typer(help="The baseline, and how well its cost is estimated.", no_args_is_help=True)


@app.callback()
def baseline() -> None:
    """The baseline, and how well its cost is estimated."""


@app.command("evaluate")
def evaluate_recorded(
    recorded: Annotated[
        Path,
        typer.Option("--recorded", help="Recorded answers, JSON lines, gzip or not: id, prompt, answers by model."),
    ],
    small: Annotated[str, typer.Option("--small", help="The model that answered, as the recording names it.")],
    large: Annotated[str, typer.Option("--baseline", help="The model whose cost is estimated.")],
    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Of the prompts that are sampled.")] = 0.05,
    resamples: Annotated[int, typer.Option("--resamples", min=10, help="How often samples are drawn.")] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the samples.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate a known cost from samples, again and again, beside the plain ratio of lengths."""
    try:
        prices_path = load_config(config or default_config_path()).prices
        lengths = answer_lengths_beside(prices_path)
        info = _priced(load_prices(prices_path), large, lengths.of(large).model)
        price = info.prices.at(now().date())
        pair = Pair(small, large, price, TokenCounter(info.tokenizer), lengths, registry.create(DEFAULT_CLASSIFIER))
        rows, left_out = read_recorded(recorded, pair)
        with _progress() as progress:
            task = progress.add_task("resamples", total=resamples)
            found = evaluate(
                pair,
                rows,
                left_out,
                share=share,
                resamples=resamples,
                seed=seed,
                on_resample=lambda: progress.advance(task),
            )
    except ParsimonyError as error:
        fail(str(error), USAGE)
    if as_json:
        print_json(evaluation_as_json(found))
    else:
        _print(found, Console())


def _priced(prices: PriceBook, name: str, known_as: str) -> ModelInfo:
    """By its own name, or by the one that the price file has for the same model."""
    try:
        return prices.model(name)
    except UnknownModel:
        if not known_as:
            raise
        return prices.model(known_as)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _print(found: Evaluation, console: Console) -> None:
    table = Table(title=f"What {found.baseline} would have cost, from the answers of {found.small}")
    table.add_column("estimate", no_wrap=True)
    for heading in ("bias", "sd", "95 % intervals that hold", "mean width"):
        table.add_column(heading, justify="right")
    table.add_row(f"from {found.sample_count} samples", *_cells(found.ours))
    table.add_row("plain ratio of lengths", *_cells(found.ratio))
    table.add_row("before any sample", _percent(found.booked_bias), "", "", "")
    table.add_row("the small model's own tokens, repriced", _percent(found.repriced_bias), "", "", "")
    console.print(table)
    truth = format_usd(found.truth_nusd, decimals=4)
    console.print(f"{found.prompt_count} prompts, ${truth} in truth; {found.resample_count} resamples.")
    for why, count in found.left_out.items():
        console.print(f"Left out: {count} {why}.")


def _cells(score: Score) -> tuple[str, str, str, str]:
    coverage = f"{100 * score.coverage:.1f} %"
    return _percent(score.bias), _percent(score.sd).lstrip("+"), coverage, f"{100 * score.mean_relative_width:.1f} %"


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"

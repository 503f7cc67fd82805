"""The same figures as cells, as a page and as values for programs: nothing left out, nothing made up."""

from __future__ import annotations

import json
import math

import orjson
import pytest

from classifiers.training.bootstrap import Estimate
from classifiers.training.evaluation import FIGURES, Settings, evaluate
from classifiers.training.latency import Latency
from classifiers.training.published import MIXTRAL_TO_GPT4
from classifiers.training.report import (
    ABSENT,
    HEADINGS,
    Report,
    as_json,
    as_markdown,
    cell,
    facts,
    latency_cells,
    legend,
    sources,
    title,
)
from tests.support.routing_examples import CONSTANT, PERFECT, example, examples

SETTINGS = Settings(price_ratio=12.5, resamples=40, seed=7)
LATENCY = Latency(tokens=32_000, message_count=33, count=300, p50_ms=0.5, p99_ms=12.34567)


@pytest.fixture(scope="module")
def report() -> Report:
    """The 72 prompts that a published figure is quoted for, and four of which one more was contaminated."""
    bench = evaluate("b.jsonl", examples(72, pair=MIXTRAL_TO_GPT4, dataset="mt_bench"), (PERFECT, CONSTANT), SETTINGS)
    four = evaluate("f.jsonl", [*examples(4), example(4, contaminated=True)], (PERFECT, CONSTANT), SETTINGS)
    return Report("perfect", SETTINGS, (*bench, *four), (LATENCY,))


@pytest.mark.parametrize(
    ("figure", "estimate", "expected"),
    [
        ("apgr", Estimate(0.5858, 0.5699, 0.6004), (".586", ".570–.600")),
        ("apgr", Estimate(-0.25, -1.5, 1.0), ("-.250", "-1.500–1.000")),
        ("apgr", Estimate(10.5), ("10.500", "")),
        ("brier", Estimate(0.2, 0.1, 0.9996), (".200", ".100–1.000")),
        ("calls", Estimate(0.45, 0.4, 0.512), ("45.0 %", "40.0–51.2")),
        ("saving", Estimate(0.0), ("0.0 %", "")),
        ("cpt50", Estimate(math.nan, 0.1, 0.2), (ABSENT, "")),
        ("calibration_error", Estimate(math.nan), ("–", "")),
    ],
)
def test_cells(figure: str, estimate: Estimate, expected: tuple[str, str]) -> None:
    assert cell(figure, estimate) == expected


def test_every_figure_has_a_heading_in_the_same_order() -> None:
    assert tuple(HEADINGS) == FIGURES


def test_facts_and_title_tell_the_data(report: Report) -> None:
    four = report.evaluations[1]
    assert title(four) == "f.jsonl: small → large"
    assert facts(four) == (
        "4 prompts (en) of 4 stems, 1 contaminated left out; mean score .500 → 1.000; "
        "the small model falls short on 50.0%"
    )
    assert "contaminated" not in facts(report.evaluations[0])


def test_the_legend_states_the_settings_and_sources_stand_once(report: Report) -> None:
    text = "\n".join(legend(SETTINGS))
    assert "costs 12.5 small ones" in text and "40 resamples of stems, seed 7" in text
    notes = sources((*report.evaluations, *report.evaluations))
    assert [note.split(":")[0] for note in notes] == ["random", "RouteLLM, published"]


def test_json_is_valid_and_complete(report: Report) -> None:
    found = json.loads(orjson.dumps(as_json(report)), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert found["classifier"] == "perfect"
    assert found["settings"] == {"price_ratio": 12.5, "resamples": 40, "seed": 7, "drop_contaminated": True}
    assert found["latency"] == [
        {"tokens": 32_000, "message_count": 33, "count": 300, "p50_ms": 0.5, "p99_ms": 12.34567}
    ]
    for told, known in zip(found["evaluations"], report.evaluations, strict=True):
        assert (told["source"], told["dataset"]) == (known.source, known.dataset)
        assert (told["weak_model"], told["strong_model"], told["langs"]) == (*known.pair, ["en"])
        counts = ("prompt_count", "stem_count", "dropped_count", "weak_mean", "strong_mean", "shortfall_share")
        for name in (*counts, "noise_sd"):
            assert told[name] == getattr(known, name)
        for row, standing in zip(told["rows"], known.rows, strict=True):
            assert (row["name"], row["kind"], row["note"]) == (standing.name, standing.kind, standing.note)
            for figure in FIGURES:
                value = getattr(standing.figures, figure).value
                assert row[figure]["value"] == (None if math.isnan(value) else value)
            assert [bin["count"] for bin in row["reliability"]] == [each.count for each in standing.reliability]


def test_markdown_has_every_row_and_figure(report: Report) -> None:
    page = as_markdown(report)
    assert page.startswith("# How good is the classifier `perfect`?\n") and page.endswith("|\n")
    lines = page.splitlines()
    for evaluation in report.evaluations:
        start = lines.index(f"## {title(evaluation)}")
        assert lines[start + 2] == f"{facts(evaluation)}."
        header, rule, *rows = lines[start + 4 : start + 6 + len(evaluation.rows)]
        assert header == f"| router | {' | '.join(HEADINGS.values())} |"
        assert rule.count("|") == header.count("|")
        for line, standing in zip(rows, evaluation.rows, strict=True):
            name, *cells = line.strip("|").split("|")
            assert name.strip() == standing.name
            expected = [cell(figure, getattr(standing.figures, figure)) for figure in FIGURES]
            assert [each.strip() for each in cells] == [f"{v} ({span})" if span else v for v, span in expected]
    assert "| RouteLLM, published | .802 | 13.4 % | 31.3 % | – | – | – | – |" in lines
    assert "| 32,000 | 33 | 0.500 | 12.346 |" in lines
    assert all(f"- {line}" in lines for line in legend(SETTINGS))


def test_without_timings_the_page_has_no_such_part(report: Report) -> None:
    assert "Time a classification" not in as_markdown(Report("perfect", SETTINGS, report.evaluations, ()))
    assert latency_cells(LATENCY) == ("32,000", "33", "0.500", "12.346")

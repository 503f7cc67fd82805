"""How fast does evidence pay? A replayed stream of requests, of which some are judged.

    python -m classifiers.training.stream --data FILE... [--weak-model M] [--application subset] [--classifier NAME]

Half of the stems are held out. The other half arrives in random order, and a request is judged while its task has
been judged fewer than k times. After that the posterior is fitted and ranks the held-out prompts: APGR (0.5 for
random), and the regret, the quality lost against an oracle that knows how every task of the held-out half fares on
average (of each prompt's own luck it knows nothing). The tasks' names are used to count judgements and by the oracle
alone: what is ranked is known by its fingerprint, and by its application where `--application` says so.

`--drift` shows something else: the outcomes of one task are reversed, and the posterior has to follow.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from classifiers import registry
from classifiers.adapted import name_of
from classifiers.base import Classifier
from classifiers.evidence import Evidence, shortfall
from classifiers.fingerprint import fingerprint
from classifiers.posterior import Posterior
from classifiers.training.datasets import Example, as_prompt, by_pair, read, without_contaminated
from classifiers.training.fit import HALF_LIFE_DAYS, SECONDS_PER_DAY, fit_rows, rows_of
from classifiers.training.metrics import FloatArray, apgr, brier, quality_curve

JUDGED = (0, 1, 2, 5, 10, 20, 50, 100)
RUNS = 20
FLIP_AFTER, DRIFT_HALF_LIFE = 200, 50
_NOW_S = 1_800_000_000.0

Outcome = Callable[[float, float], float]
"""What a judgement says of the weak and the strong model's scores, in [0, 1]."""


def gain(weak_score: float, strong_score: float) -> float:
    """The strong model's gain, moved to [0, 1]: unlike `shortfall`, it counts where the weak model is better."""
    return (1.0 + strong_score - weak_score) / 2.0


OUTCOMES: dict[str, Outcome] = {"shortfall": shortfall, "gain": gain}


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt of the stream: its task's name, its stem, what both models made of it, and what the prior says."""

    task: str
    stem: str
    weak_score: float
    strong_score: float
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Point:
    """After `judged` requests a task: figures of the held-out half, the mean of all runs.

    `apgr_low` and `apgr_high` hold all but the most extreme twentieth of the runs. `covered` is the share of tasks
    whose mean outcome lies within two standard deviations of their mean score: about .95 where the stated spread is
    honest.
    """

    judged: int
    evidence: float
    apgr: float
    apgr_low: float
    apgr_high: float
    oracle: float
    regret: float
    brier: float
    mean_sd: float
    covered: float
    slope_between: float
    slope_within: float


@dataclass(frozen=True, slots=True)
class Drift:
    """A task whose outcomes were reversed after `flip_after` judgements of it.

    `followed_after` counts the judgements of the new kind after which its score is nearer to the new mean than to
    the old, None where it never is.
    """

    task: str
    half_life_judgements: float
    flip_after: int
    mean_before: float
    mean_after: float
    followed_after: int | None


# ---- the stream ----------------------------------------------------------------------------------


def requests_of(
    examples: Iterable[Example],
    classifier: Classifier,
    application: Callable[[Example], str] = lambda example: "",
    outcome: Outcome = shortfall,
) -> list[Request]:
    """The examples as requests of one small model, with what the prior says of each."""
    requests = []
    for example in examples:
        prompt = replace(as_prompt(example.prompt), application=application(example))
        prior = classifier.classify(prompt)
        evidence = Evidence(
            prior.fingerprint or fingerprint(prompt),
            example.weak_model,
            prior.score,
            outcome(example.weak_score, example.strong_score),
            prior.task,
            time_s=_NOW_S,
            source="evaluation",
            classifier=prior.classifier,
        )
        requests.append(Request(example.subset, example.stem, example.weak_score, example.strong_score, evidence))
    return requests


def learning_curve(
    requests: Sequence[Request], judged: Sequence[int] = JUDGED, runs: int = RUNS, seed: int = 0
) -> list[Point]:
    """A point for each number of judged requests a task."""
    found: dict[int, list[FloatArray]] = defaultdict(list)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        arriving, held_out = halves(requests, rng)
        for count in judged:
            found[count].append(_run(_judged(arriving, count), held_out))
    return [_point(count, np.array(found[count])) for count in judged]


def halves(requests: Sequence[Request], rng: np.random.Generator) -> tuple[list[Request], list[Request]]:
    """Two halves that share no stem, each in random order."""
    stems = sorted({request.stem for request in requests})
    first = {stems[at] for at in rng.permutation(len(stems))[: len(stems) // 2]}
    shuffled = [requests[at] for at in rng.permutation(len(requests))]
    return [r for r in shuffled if r.stem in first], [r for r in shuffled if r.stem not in first]


def scores(posterior: Posterior, requests: Sequence[Request]) -> tuple[FloatArray, FloatArray]:
    """Score and standard deviation of each request."""
    estimates = [
        posterior.estimate(request.evidence.score, request.evidence.task, request.evidence.fingerprint)
        for request in requests
    ]
    return np.array([each.score for each in estimates]), np.array([each.sd for each in estimates])


def _judged(arriving: Sequence[Request], count: int) -> list[Evidence]:
    """The first `count` of each task."""
    seen: Counter[str] = Counter()
    chosen = []
    for request in arriving:
        if seen[request.task] < count:
            seen[request.task] += 1
            chosen.append(request.evidence)
    return chosen


def _run(evidence: Sequence[Evidence], held_out: Sequence[Request]) -> FloatArray:
    """The figures of `Point` from `evidence` on, intervals left out."""
    weak = np.array([request.weak_score for request in held_out])
    strong = np.array([request.strong_score for request in held_out])
    fitted = fit_rows(rows_of(evidence, _NOW_S, HALF_LIFE_DAYS), "prior@0", "small")
    score, sd = scores(fitted, held_out)
    curve = quality_curve(score, weak, strong)
    recovered = float(apgr(curve))
    best = float(apgr(quality_curve(_oracle(held_out), weak, strong)))
    regret = (best - recovered) * float((strong - weak).mean())
    outcomes = np.array([request.evidence.outcome for request in held_out])
    return np.array(
        [
            len(evidence),
            recovered,
            best,
            regret,
            float(brier(score, outcomes)),
            sd.mean(),
            _covered(held_out, score, sd),
            fitted.slope_between,
            fitted.slope_within,
        ]
    )


def _oracle(requests: Sequence[Request]) -> FloatArray:
    """What knows the mean gain of each task, and nothing of the prompts."""
    gains: dict[str, list[float]] = defaultdict(list)
    for request in requests:
        gains[request.task].append(request.strong_score - request.weak_score)
    means = {task: float(np.mean(values)) for task, values in gains.items()}
    return np.array([means[request.task] for request in requests])


def _covered(requests: Sequence[Request], score: FloatArray, sd: FloatArray) -> float:
    """As `Point.covered`; that the mean outcome is itself one of a sample is allowed for."""
    rows: dict[str, list[int]] = defaultdict(list)
    for at, request in enumerate(requests):
        rows[request.task].append(at)
    hits = []
    for at_rows in rows.values():
        outcomes = np.array([requests[at].evidence.outcome for at in at_rows])
        spread = np.hypot(sd[at_rows].mean(), outcomes.std() / np.sqrt(len(outcomes)))
        hits.append(abs(score[at_rows].mean() - outcomes.mean()) <= 2.0 * spread)
    return float(np.mean(hits))


def _point(count: int, runs: FloatArray) -> Point:
    evidence, recovered, *others = (float(mean) for mean in runs.mean(axis=0))
    low, high = (float(value) for value in np.quantile(runs[:, 1], [0.025, 0.975]))
    return Point(count, evidence, recovered, low, high, *others)


# ---- drift ---------------------------------------------------------------------------------------


def drift(
    requests: Sequence[Request], half_life_judgements: float, flip_after: int = FLIP_AFTER, seed: int = 0
) -> Drift:
    """Reverses the outcomes of the task that departs most from one half, and watches its score follow.

    A day brings one judgement of that task, and as many of each other.
    """
    rng = np.random.default_rng(seed)
    task = _most_decided(requests)
    mean_before = float(np.mean([request.evidence.outcome for request in requests if request.task == task]))
    own = [request for request in requests if request.task == task]
    others = [request for request in requests if request.task != task]
    watched = [own[at] for at in rng.permutation(len(own))[:50]]
    evidence: list[Evidence] = []
    for day in range(4 * flip_after):
        reversed_now = day >= flip_after
        for request in (own[rng.integers(len(own))], others[rng.integers(len(others))]):
            item = replace(request.evidence, time_s=day * SECONDS_PER_DAY)
            if reversed_now and request.task == task:
                item = replace(item, outcome=1.0 - item.outcome)
            evidence.append(item)
        if reversed_now and day % 5 == 4:
            fitted = fit_rows(rows_of(evidence, day * SECONDS_PER_DAY, half_life_judgements), "prior@0", "small")
            if abs(scores(fitted, watched)[0].mean() - mean_before) > abs(1.0 - 2.0 * mean_before) / 2.0:
                return Drift(task, half_life_judgements, flip_after, mean_before, 1 - mean_before, day + 1 - flip_after)
    return Drift(task, half_life_judgements, flip_after, mean_before, 1 - mean_before, None)


def _most_decided(requests: Sequence[Request]) -> str:
    outcomes: dict[str, list[float]] = defaultdict(list)
    for request in requests:
        outcomes[request.task].append(request.evidence.outcome)
    return max(outcomes, key=lambda task: (abs(float(np.mean(outcomes[task])) - 0.5), task))


# ---- what is printed and drawn -------------------------------------------------------------------


def table(points: Sequence[Point]) -> str:
    """The learning curve as lines of text."""
    head = "judged a task  in all   APGR  95 % of runs   oracle  regret  Brier  mean sd  covered  slopes"
    lines = [
        f"{point.judged:13d}  {point.evidence:6.0f}  {point.apgr:5.3f}  {point.apgr_low:5.3f} to {point.apgr_high:.3f}"
        f"  {point.oracle:6.3f}  {point.regret:6.4f}  {point.brier:5.3f}  {point.mean_sd:7.3f}  {point.covered:7.2f}"
        f"  {point.slope_between:.2f} / {point.slope_within:.2f}"
        for point in points
    ]
    return "\n".join([head, *lines])


def draw(curves: dict[str, Sequence[Point]], path: Path) -> None:
    """One panel a stream: APGR against judged requests a task. RuntimeError where matplotlib is missing."""
    try:
        # Imported here alone: it is a development tool, and takes a second.
        from matplotlib.figure import Figure
    except ImportError:
        raise RuntimeError("a picture needs matplotlib: pip install matplotlib, or leave --picture out") from None
    figure: Any = Figure(figsize=(4.2 * len(curves), 3.4), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        at = range(len(points))
        axes.fill_between(
            at, [p.apgr_low for p in points], [p.apgr_high for p in points], color="#0072b2", alpha=0.15, lw=0
        )
        axes.plot(at, [p.apgr for p in points], color="#0072b2", marker="o", ms=4)
        axes.plot(at, [p.oracle for p in points], color="#6b6b6b", ls="--", lw=1)
        axes.annotate("knows every task's mean", (0, points[0].oracle), (0, 3), textcoords="offset points", fontsize=8)
        axes.axhline(0.5, color="#6b6b6b", lw=1, ls=":")
        axes.set_xticks(list(at), [str(point.judged) for point in points])
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("judged requests a task")
        axes.set_ylabel("APGR on other prompts")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    options = _options()
    classifier = registry.create(options.classifier)
    curves: dict[str, Sequence[Point]] = {}
    for name, examples in _sources(options):
        requests = requests_of(examples, classifier, _application(options.application), OUTCOMES[options.outcome])
        tasks = len({request.task for request in requests})
        print(f"{name}: {len(requests)} requests, {tasks} tasks, prior {name_of(classifier)}, {options.outcome}")
        if options.drift:
            for half_life in (DRIFT_HALF_LIFE, 1e6):
                print(json.dumps(asdict(drift(requests, half_life, seed=options.seed))))
            continue
        points = curves[name] = learning_curve(requests, options.judged, options.runs, options.seed)
        print("\n".join(json.dumps(asdict(point)) for point in points) if options.json else table(points), end="\n\n")
    if options.picture and curves:
        draw(curves, options.picture)


def _sources(options: argparse.Namespace) -> Iterable[tuple[str, list[Example]]]:
    """Each pair of models of each file, less what is contaminated or not asked for."""
    for path in options.data:
        examples = without_contaminated(read(path, weak_model=options.weak_model, strong_model=options.strong_model))
        wanted = [each for each in examples if not options.only or each.extra.get(options.only)]
        for (small, large), pair in by_pair(wanted).items():
            yield f"{Path(path).name.split('.')[0]}, {small} beside {large}", pair


def _application(field: str | None) -> Callable[[Example], str]:
    return (lambda example: str(getattr(example, field))) if field else (lambda example: "")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m classifiers.training.stream", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--weak-model")
    parser.add_argument("--strong-model")
    parser.add_argument("--only", metavar="KEY", help="only examples whose extra.KEY is true")
    parser.add_argument("--application", choices=["subset", "dataset"], help="what stands for the application")
    parser.add_argument("--classifier", default="heuristic", choices=sorted(registry.CLASSIFIERS))
    parser.add_argument("--outcome", default="shortfall", choices=sorted(OUTCOMES))
    parser.add_argument("--judged", nargs="+", type=int, default=JUDGED)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()

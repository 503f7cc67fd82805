"""What are judged prompts worth to other prompts of their kind, where nothing is known but the prompts?

    python -m classifiers.training.own_traffic --data FILE... [--weak-model M] [--judged 300 1500] [--classifier NAME]

So many judged prompts are drawn by stem, and learned from as `parsimony classifier fit` does; all other stems are
ranked: APGR (0.5 for random) by the classifier alone, with the groups' offsets alone, and with the forest as well.
Prompts marked as contaminated are left out. Applications are not told, unless
`--by-subset` has each subset for one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifiers import registry
from classifiers.adapted import name_of
from classifiers.base import Classifier
from classifiers.evidence import Evidence, parse
from classifiers.posterior import Posterior
from classifiers.training.datasets import Example, by_pair, read, without_contaminated
from classifiers.training.fit import HALF_LIFE_DAYS, fit
from classifiers.training.metrics import FloatArray, apgr, brier, quality_curve
from classifiers.training.stacking import stacked

JUDGED, RUNS = (300, 700, 1500, 3000), 5
_NOW_S = 1_800_000_000.0


@dataclass(frozen=True, slots=True)
class Run:
    """One draw: APGR and Brier score on all stems that were not judged."""

    judged: int
    ranked: int
    forest: bool
    apgr_classifier: float
    apgr_groups: float
    apgr_all: float
    brier_classifier: float
    brier_all: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """The examples of one pair of models, each as evidence; [examples]."""

    evidence: Sequence[Evidence]
    weak: FloatArray
    strong: FloatArray
    stems: Sequence[str]


def traffic(examples: Sequence[Example], classifier: Classifier, by_subset: bool = False) -> Traffic:
    """Read as `parsimony classifier fit` reads routing data; `by_subset` tells it the subset as the application."""
    lines = [
        {
            "prompt": one.prompt,
            "weak_model": one.weak_model,
            "weak_score": one.weak_score,
            "strong_score": one.strong_score,
            "application": one.subset if by_subset else "",
        }
        for one in examples
    ]
    return Traffic(
        [parse(json.dumps(line), one.id, classifier, _NOW_S) for line, one in zip(lines, examples, strict=True)],
        np.array([one.weak_score for one in examples]),
        np.array([one.strong_score for one in examples]),
        [one.stem for one in examples],
    )


def run(known: Traffic, judged: int, seed: int) -> Run:
    """Learns from `judged` examples, drawn by stem, and ranks those of all other stems."""
    chosen, others = drawn(known.stems, judged, seed)
    items = [known.evidence[at] for at in chosen]
    found = stacked(items, _NOW_S, HALF_LIFE_DAYS)
    small_model = items[0].small_model
    plain = fit(items, "classifier@0", _NOW_S).posteriors[0]
    whole = fit(found.items, "classifier@0", _NOW_S, stacks={small_model: found.stack}).posteriors[0]
    held_out = [known.evidence[at] for at in others]
    bare = np.array([item.score for item in held_out])
    weak, strong = known.weak[others], known.strong[others]
    outcomes = np.array([item.outcome for item in held_out])
    grouped, combined = scores(plain, held_out), scores(whole, held_out)
    return Run(
        len(chosen),
        len(others),
        found.stack is not None,
        *(float(apgr(quality_curve(each, weak, strong))) for each in (bare, grouped, combined)),
        *(float(brier(each, outcomes)) for each in (bare, combined)),
    )


def drawn(stems: Sequence[str], count: int, seed: int) -> tuple[list[int], NDArray[np.intp]]:
    """At least `count` examples, whole stems in random order, and all of the stems that are left."""
    names = sorted(set(stems))
    place = {names[at]: order for order, at in enumerate(np.random.default_rng(seed).permutation(len(names)))}
    order = np.array([place[stem] for stem in stems])
    if count >= len(stems):
        raise ValueError(f"{count} judged examples of {len(stems)} leave none to rank")
    last = np.sort(order)[count - 1]
    return np.flatnonzero(order <= last).tolist(), np.flatnonzero(order > last)


def scores(posterior: Posterior, items: Sequence[Evidence]) -> FloatArray:
    """As `AdaptedClassifier` would say, [items]."""
    said = []
    for item in items:
        score = item.score if item.measured is None else posterior.stacked(item.score, item.measured)
        said.append(posterior.estimate(score, item.task, item.fingerprint).score)
    return np.array(said)


def table(runs: Sequence[Run]) -> str:
    """A line for each number of judged prompts: means, and the range of the runs."""
    lines = ["judged  ranked  forest   APGR alone  groups  with forest           Brier alone  with forest"]
    for judged in sorted({each.judged for each in runs}):
        own = [each for each in runs if each.judged == judged]

        def mean(name: str, own: Sequence[Run] = own) -> float:
            return float(np.mean([getattr(each, name) for each in own]))

        best = [each.apgr_all for each in own]
        lines.append(
            f"{judged:6d}  {mean('ranked'):6.0f}  {sum(each.forest for each in own):2d} of {len(own)}"
            f"   {mean('apgr_classifier'):10.3f}  {mean('apgr_groups'):6.3f}"
            f"  {np.mean(best):.3f} ({min(best):.3f} to {max(best):.3f})"
            f"  {mean('brier_classifier'):11.4f}  {mean('brier_all'):11.4f}"
        )
    return "\n".join(lines)


def main() -> None:
    options = _options()
    classifier = registry.create(options.classifier)
    for path in options.data:
        examples = without_contaminated(read(path, weak_model=options.weak_model, strong_model=options.strong_model))
        for (small, large), pair in by_pair(examples).items():
            known = traffic(pair, classifier, options.by_subset)
            counts = [count for count in options.judged if 2 * count <= len(pair)]
            runs = [run(known, count, seed) for count in counts for seed in range(options.runs)]
            if options.json:
                print("\n".join(json.dumps(asdict(each)) for each in runs))
                continue
            print(f"{path.name}, {small} beside {large}, {name_of(classifier)}, {options.runs} draws")
            print(table(runs), end="\n\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m classifiers.training.own_traffic", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", nargs="+", required=True, type=Path, metavar="FILE")
    parser.add_argument("--weak-model")
    parser.add_argument("--strong-model")
    parser.add_argument("--classifier", default="learned", choices=sorted(registry.CLASSIFIERS))
    parser.add_argument("--judged", nargs="+", type=int, default=JUDGED)
    parser.add_argument("--by-subset", action="store_true", help="each subset is an application of its own")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Prior and evidence in one score: what a classifier says of a prompt, moved by how its task has fared so far.

In logits, a request's score is a line in the classifier's own score plus an offset for each group that the request
belongs to: its model's kind of task, its application, and the parts of its fingerprint. Offsets are shrunk towards
zero, the more the fewer judgements stand behind them (`classifiers.training.fit` estimates by how much), so a group
without evidence leans on the coarser ones, and at last on the classifier alone.

The line has two slopes: how far the classifier's ranking of tasks is to be believed, and its ranking within one task.
They differ a great deal: a classifier may know hard tasks from easy ones and nothing about the requests of one task.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, log, pi, sqrt
from pathlib import Path
from typing import Any, NamedTuple

from classifiers.fingerprint import PARTS, keys
from classifiers.forest import Floats, ForestError, Stack

FORMAT = 2
LEVELS = ("task", *PARTS)
"""Coarse to fine, in the order in which offsets were shrunk."""
CENTRED_LEVEL = "opening"
"""Whose groups are the tasks between which, and within which, the two slopes rank."""

GROUP_LIMIT = 4_096
"""Groups kept for a level of a small model; those with the least evidence are dropped first."""
FILE_LIMIT_BYTES = 32_000_000
SMALL_MODEL_LIMIT = 64
# A score this near to 0 or 1 says no more than that; beyond, the logit runs away.
_LEAST_SCORE = 0.02
_LARGEST_LOGIT = 8.0
_LARGEST_COUNT = 1e9


class PosteriorError(ValueError):
    """A file that holds no posterior that can be used; says which key, what was found and what is allowed."""


class Group(NamedTuple):
    """What is known of one group of requests.

    `offset` in logits; `information`, the precision that its own judgements give to it; `weight`, how many
    judgements stand behind it, old ones counting less; `centre`, their mean prior logit.
    """

    offset: float
    information: float
    weight: float
    centre: float


class Level(NamedTuple):
    """Groups of one kind. `variance` is that of their true offsets: what is left open where a group is unknown."""

    variance: float
    groups: Mapping[str, Group]


class Estimate(NamedTuple):
    """`score` and its standard deviation; `judged` judgements of the request's `known_by`, the finest of `LEVELS` with
    any (its closing apart, which many tasks share); empty where there is none."""

    score: float
    sd: float
    judged: float
    known_by: str


@dataclass(frozen=True, slots=True)
class Posterior:
    """The evidence on one small model, for the scores of the classifier that calls itself `prior`.

    `intercept` is the logit at the prior logit `centre`, `variance` its own; `slope_between` and `slope_within` are
    explained above. `levels` are those in `LEVELS`. Where there is a `stack`, the score that all this moves is the
    `stacked` one.
    """

    prior: str
    small_model: str
    intercept: float
    variance: float
    centre: float
    slope_between: float
    slope_within: float
    judged: float
    levels: tuple[Level, ...]
    stack: Stack | None = None

    def stacked(self, score: float, measured: Floats) -> float:
        """The classifier's score, combined with what judged prompts say of one that measures so."""
        if self.stack is None:
            return score
        moved = self.stack.logit(logit(score), measured)
        return _logistic(min(max(moved, -_LARGEST_LOGIT), _LARGEST_LOGIT))

    def estimate(self, score: float, task: str | None, fingerprint: str) -> Estimate:
        """What to say of a request of which the classifier said `score` and `task`; takes microseconds."""
        prior = centre = logit(score)
        total, nested, crossed = self.intercept, self.variance, 0.0
        judged, known_by, among, recurs = 0.0, "", 0.0, False
        for at, (own_name, rest_name) in enumerate(((task or "", ""), *keys(fingerprint))):
            if not own_name or (at == _CLAUSE_AT and not recurs):
                continue  # of an opening that is a one-off, the clause is one, too
            level_variance, groups = self.levels[at]
            own = groups.get(own_name)
            group = own or groups.get(rest_name)
            variance, left = level_variance, 1.0
            if group is not None:
                total += group.offset
                variance = 1.0 / (1.0 / level_variance + group.information)
                left = variance / level_variance
                if at == _CENTRED_AT:
                    centre = group.centre
                if own is None:
                    variance += level_variance * (1.0 - group.weight / (among + _DOUBTFUL))
            if at in _CROSSED:
                crossed += variance
            else:
                # What a group's own judgements tell, those of what it lies in need not.
                nested = variance + left * left * nested
            if at != _CLOSING_AT:
                recurs = own is not None
                if own is not None:
                    judged, known_by = own.weight, LEVELS[at]
                if at == _APPLICATION_AT:
                    among = judged
        total += self.slope_between * (centre - self.centre) + self.slope_within * (prior - centre)
        return _estimate(total, nested + crossed, judged, known_by)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a file holds: a posterior for each small model. `fitted_at_s` is Unix seconds.

    `learned_from` are the SHA-256 of the files of evidence: what was learned from them cannot be calibrated on them.
    """

    prior: str
    fitted_at_s: float
    half_life_days: float
    posteriors: tuple[Posterior, ...]
    learned_from: tuple[str, ...] = ()

    def for_any_of(self, names: Iterable[str]) -> Posterior | None:
        """The posterior of the first name that has one."""
        known = {posterior.small_model: posterior for posterior in self.posteriors}
        return next((known[name] for name in names if name in known), None)

    @property
    def small_models(self) -> tuple[str, ...]:
        return tuple(posterior.small_model for posterior in self.posteriors)

    def write(self, path: Path) -> None:
        """Replaces the file at once, so that whoever reads it meanwhile finds the old one or the new one."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps(self._as_json(), allow_nan=False, separators=(",", ":")), encoding="utf-8")
        beside.replace(path)

    def _as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "prior": self.prior,
            "fitted_at_s": self.fitted_at_s,
            "half_life_days": self.half_life_days,
            "learned_from": list(self.learned_from),
            "small_models": {posterior.small_model: _as_json(posterior) for posterior in self.posteriors},
        }


def read(path: Path) -> Fit:
    """The fit in a file. Raises PosteriorError that names the file, the key, what was found and what is allowed."""
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise PosteriorError(f"is larger than {FILE_LIMIT_BYTES} bytes")
        return _fit(json.loads(path.read_bytes()))
    except OSError as error:
        raise PosteriorError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (PosteriorError, ValueError, RecursionError) as error:
        found = str(error) if isinstance(error, PosteriorError) else f"is no JSON ({error})"
        raise PosteriorError(f"{path}: {found}; `parsimony classifier fit` writes such files") from None


_CENTRED_AT = LEVELS.index(CENTRED_LEVEL)
_APPLICATION_AT, _CLAUSE_AT, _CLOSING_AT = (LEVELS.index(name) for name in ("application", "clause", "closing"))
# These lie in no other level, nor in one another; an opening lies in its application, a clause in its opening.
_CROSSED = (LEVELS.index("task"), _CLOSING_AT)
# A part not judged before is a one-off, or the first of many. The more of an application's judgements fell on one-offs,
# the likelier the former, of which all that can be learned is known; before so many judgements, nobody can tell.
_DOUBTFUL = 20.0


def logit(score: float) -> float:
    bounded = min(max(score, _LEAST_SCORE), 1.0 - _LEAST_SCORE)
    return log(bounded / (1.0 - bounded))


def _estimate(total: float, variance: float, judged: float, known_by: str) -> Estimate:
    """Mean and spread of a probability whose logit is normal (MacKay 1992; the spread as half the one-sd interval)."""
    middle = min(max(total, -_LARGEST_LOGIT), _LARGEST_LOGIT)
    sd = sqrt(variance)
    return Estimate(
        _logistic(middle / sqrt(1.0 + pi * variance / 8.0)),
        (_logistic(min(middle + sd, 30.0)) - _logistic(max(middle - sd, -30.0))) / 2.0,
        judged,
        known_by,
    )


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + exp(-value))


# ---- the file ------------------------------------------------------------------------------------

_NUMBERS = {  # of a posterior, each with the least and the most that is believed
    "intercept": (-_LARGEST_LOGIT, _LARGEST_LOGIT),
    "variance": (0.0, 100.0),
    "centre": (-_LARGEST_LOGIT, _LARGEST_LOGIT),
    "slope_between": (0.0, 10.0),
    "slope_within": (0.0, 10.0),
    "judged": (0.0, _LARGEST_COUNT),
}
_GROUP_BOUNDS = ((-20.0, 20.0), (0.0, _LARGEST_COUNT), (0.0, _LARGEST_COUNT), (-_LARGEST_LOGIT, _LARGEST_LOGIT))


def _as_json(posterior: Posterior) -> dict[str, Any]:
    return {
        **{name: getattr(posterior, name) for name in _NUMBERS},
        "levels": {
            name: {"variance": level.variance, "groups": {key: list(group) for key, group in level.groups.items()}}
            for name, level in zip(LEVELS, posterior.levels, strict=True)
        },
        "stack": None if posterior.stack is None else posterior.stack.as_json(),
    }


def _fit(values: Any) -> Fit:
    top = _mapping(values, "the file")
    if top.get("format") != FORMAT:
        raise PosteriorError(f"format is {_shown(top.get('format'))}; this version reads {FORMAT}: fit anew")
    prior = _get(top, "prior", "")
    if not isinstance(prior, str) or not prior:
        raise PosteriorError(f"prior is {_shown(prior)}; needed is a classifier's name")
    models = _mapping(_get(top, "small_models", ""), "small_models")
    if len(models) > SMALL_MODEL_LIMIT:
        raise PosteriorError(f"small_models holds {len(models)}; allowed are {SMALL_MODEL_LIMIT}")
    return Fit(
        prior,
        _number(_get(top, "fitted_at_s", ""), "fitted_at_s", (0.0, 1e12)),
        _number(_get(top, "half_life_days", ""), "half_life_days", (1e-6, 1e6)),
        tuple(_posterior(prior, name, value) for name, value in models.items()),
        _texts(top.get("learned_from", []), "learned_from"),
    )


def _posterior(prior: str, name: str, value: Any) -> Posterior:
    where = f"small_models.{name}"
    fields = _mapping(value, where)
    numbers = {key: _number(_get(fields, key, where), f"{where}.{key}", bounds) for key, bounds in _NUMBERS.items()}
    levels = _mapping(_get(fields, "levels", where), f"{where}.levels")
    read_levels = tuple(_level(_get(levels, level, where), f"{where}.levels.{level}") for level in LEVELS)
    stack = _stack(_get(fields, "stack", where), f"{where}.stack")
    return Posterior(prior=prior, small_model=name, levels=read_levels, stack=stack, **numbers)


def _stack(value: Any, where: str) -> Stack | None:
    try:
        return None if value is None else Stack.from_json(value)
    except ForestError as error:
        raise PosteriorError(f"{where}: {error}") from None


def _level(value: Any, where: str) -> Level:
    fields = _mapping(value, where)
    groups = _mapping(_get(fields, "groups", where), f"{where}.groups")
    if len(groups) > GROUP_LIMIT:
        raise PosteriorError(f"{where}.groups holds {len(groups)}; allowed are {GROUP_LIMIT}")
    variance = _number(_get(fields, "variance", where), f"{where}.variance", (1e-6, 100.0))
    return Level(variance, {key: _group(group, f"{where}.groups.{key}") for key, group in groups.items()})


def _group(value: Any, where: str) -> Group:
    if not isinstance(value, list) or len(value) != len(Group._fields):
        raise PosteriorError(f"{where} is {_shown(value)}; needed is [{', '.join(Group._fields)}]")
    return Group(*[_number(part, where, bounds) for part, bounds in zip(value, _GROUP_BOUNDS, strict=True)])


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise PosteriorError(f"{where} is {_shown(value)}; needed is a list of texts")
    return tuple(value)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PosteriorError(f"{where} holds {_shown(value)}; needed is a mapping")
    return value


def _get(fields: dict[str, Any], key: str, where: str) -> Any:
    if key not in fields:
        raise PosteriorError(f"{where + '.' if where else ''}{key} is missing")
    return fields[key]


def _number(value: Any, where: str, bounds: tuple[float, float]) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not bounds[0] <= value <= bounds[1]:
        raise PosteriorError(f"{where} is {_shown(value)}; allowed is a number in [{bounds[0]:g}, {bounds[1]:g}]")
    return float(value)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "…"

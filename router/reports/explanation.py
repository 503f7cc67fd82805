"""Why a request went where it went, and how its cost came about: for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from policies.budget import amount_text
from policies.catalog import Price
from policies.drivers import DRIVERS, drivers
from policies.money import format_usd
from policies.pricing import cost_nusd, rates_for
from policies.repricing import answered_usage, baseline_usage
from policies.routing import REASONS
from policies.spend import SpendRecord
from policies.usage import TokenUsage
from router.config import AliasConfig, Config
from router.prices import PriceBook, UnknownModel
from router.reports.currency import money_text
from router.reports.versions import versions_as_json, versions_in_words
from router.stores.sql_repricing import Replaced


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Tokens times price, term by term; `total_nusd` is their sum, rounded up once."""

    model: str
    price: Price
    usage: TokenUsage

    @property
    def total_nusd(self) -> int:
        return cost_nusd(self.usage, self.price)

    @property
    def _rates(self) -> Price:
        return rates_for(self.price, self.usage.input_tokens)

    def terms(self) -> list[tuple[str, int, int]]:
        """Kind, tokens, nano-USD per million of them; of all kinds that have a price of their own, and some tokens."""
        usage, rates = self.usage, self._rates
        special = [
            ("cached input", usage.cached_input_tokens, rates.cached_input_nusd_per_mtok),
            ("cache write", usage.cache_write_input_tokens, rates.cache_write_nusd_per_mtok),
        ]
        priced = [(kind, count, per_mtok) for kind, count, per_mtok in special if count and per_mtok is not None]
        plain = usage.input_tokens - sum(count for _, count, _ in priced)
        return [
            ("input", plain, rates.input_nusd_per_mtok),
            *priced,
            ("output", usage.output_tokens, rates.output_nusd_per_mtok),
        ]

    def in_words(self) -> str:
        terms = [f"{count} {kind} x ${format_usd(per_mtok)}" for kind, count, per_mtok in self.terms()]
        price = f"{self.model}, price of {self.price.effective_from.isoformat()}"
        if self._rates.above_input_tokens:
            price += f" above {self._rates.above_input_tokens} input tokens"
        return f"({' + '.join(terms)}) / 1M tokens = ${format_usd(self.total_nusd)}; {price}"

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "price_effective_from": self.price.effective_from.isoformat(),
            "above_input_tokens": self._rates.above_input_tokens,
            "terms": [
                {"kind": kind, "tokens": count, "nusd_per_mtok": per_mtok, "usd_per_mtok": format_usd(per_mtok)}
                for kind, count, per_mtok in self.terms()
            ],
            "total_nusd": self.total_nusd,
            "total_usd": format_usd(self.total_nusd),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """A record with what the configuration adds to it. `thresholds` are those configured now, `replaced` what it said
    before each late correction of prices, the oldest first."""

    record: SpendRecord
    thresholds: AliasConfig | None
    cost: Arithmetic | None
    baseline: Arithmetic | None
    replaced: Sequence[Replaced] = ()


def explained(record: SpendRecord, config: Config, prices: PriceBook, replaced: Sequence[Replaced] = ()) -> Explanation:
    """Adds the arithmetic, where the configuration still has the prices that were charged."""
    return Explanation(
        record=record,
        thresholds=config.aliases.get(record.alias) if record.score is not None else None,
        cost=_cost(record, config, prices),
        baseline=_baseline(record, prices),
        replaced=replaced,
    )


def _cost(record: SpendRecord, config: Config, prices: PriceBook) -> Arithmetic | None:
    names = [deployment.price for deployment in config.deployments if deployment.name == record.deployment]
    if not names or record.price_effective_from is None:
        return None
    found = _arithmetic(names[0], prices, date.fromisoformat(record.price_effective_from), answered_usage(record))
    return found if found is not None and found.total_nusd == record.cost_nusd - record.retries_nusd else None


def _baseline(record: SpendRecord, prices: PriceBook) -> Arithmetic | None:
    if not record.baseline_cost_nusd:
        return None
    day = _day_of_baseline_price(record)
    found = _arithmetic(record.baseline_model, prices, day, baseline_usage(record))
    return found if found is not None and found.total_nusd == record.baseline_cost_nusd else None


def _day_of_baseline_price(record: SpendRecord) -> date:
    if record.baseline_price_effective_from is not None:
        return date.fromisoformat(record.baseline_price_effective_from)
    return datetime.fromtimestamp(record.started_at_ms / 1000, UTC).date()


def _arithmetic(model: str, prices: PriceBook, day: date, usage: TokenUsage) -> Arithmetic | None:
    try:
        return Arithmetic(model, prices.model(model).prices.at(day), usage)
    except UnknownModel:
        return None


# ---- for people ----------------------------------------------------------------------------------


def facts(explanation: Explanation) -> list[tuple[str, str]]:
    """The story from top to bottom; several lines of one name have it once."""
    record = explanation.record
    return [
        ("request", record.request_id),
        *_measuring(record),
        ("when", f"{_moment(record)}, {_duration(record)}"),
        ("who", f"team {record.team_id}, key {record.key_id}"),
        ("asked for", record.alias),
        ("answered by", _answered_by(record)),
        ("outcome", _outcome(record)),
        ("why", f"{record.reason}: {REASONS.get(record.reason, 'no longer a known reason')}"),  # type: ignore[call-overload]
        *_judgement(explanation),
        *_lines("considered", [_considered(*choice) for choice in record.detail.get("chain", ())]),
        *_lines("passed over", [f"{name}: {why}" for name, why in record.detail.get("passed_over", ())]),
        *_refused_by(record),
        *_lines("tried", [_tried(attempt) for attempt in record.detail.get("attempts", ())]),
        ("cache", record.cache),
        ("tokens", _tokens(record)),
        ("cost", _cost_in_words(explanation)),
        ("baseline", _baseline_in_words(explanation)),
        *_lines("repriced", versions_in_words(record, explanation.replaced)),
        ("saved", money_text(record.savings_nusd)),
        *_lines("of that", [f"{DRIVERS[driver]}: {money_text(nusd)}" for driver, nusd in drivers(record).items()]),
        *_observed(record),
    ]


def _measuring(record: SpendRecord) -> list[tuple[str, str]]:
    if record.kind == "request":
        return []
    share = "" if record.sample_share is None else f", drawn with a share of {record.sample_share:.4g}"
    return [("measures", f"request {record.parent_id} ({record.kind}{share}); its answer went to nobody")]


def _observed(record: SpendRecord) -> list[tuple[str, str]]:
    """What routing would have made of it, of an alias that only observes."""
    if record.observed_deployment is None:
        return []
    if record.status != "ok" or record.cache == "hit":
        return [("observed", f"routing would have sent it to {record.observed_deployment}")]
    cost = f"${format_usd(record.observed_cost_nusd)} for an answer as long"
    return [("observed", f"routing would have sent it to {record.observed_deployment}: {cost}")]


def _lines(name: str, values: list[str]) -> list[tuple[str, str]]:
    return [(name if index == 0 else "", value) for index, value in enumerate(values)]


def _moment(record: SpendRecord) -> str:
    return datetime.fromtimestamp(record.started_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(record: SpendRecord) -> str:
    first = "" if record.first_token_ms is None else f", first token after {record.first_token_ms} ms"
    return f"{record.duration_ms} ms{first}"


def _answered_by(record: SpendRecord) -> str:
    if record.cache == "hit":
        return f"the response cache; first answered by {record.deployment}"
    if record.deployment is None:
        return "nobody"
    wire = f"{record.response_model or record.request_model} at {record.provider_name}"
    return f"{record.deployment} ({wire}{', SIMULATED' if record.simulated else ''})"


def _outcome(record: SpendRecord) -> str:
    code = f", {record.error_code}" if record.error_code else ""
    finish = f", finished: {record.finish_reasons}" if record.finish_reasons else ""
    return f"{record.status}{code}{finish}{', streamed' if record.stream else ''}"


def _judgement(explanation: Explanation) -> list[tuple[str, str]]:
    record, limits = explanation.record, explanation.thresholds
    if record.score is None:
        return []
    quality, threshold = record.detail.get("quality_target"), record.detail.get("threshold")
    if quality is not None and threshold is not None:
        # Four digits, as thresholds have three: a score just below one should not look the same.
        compared = f"score {record.score:.4f} {'<' if record.score < threshold else '>='} {threshold:g}"
        text = f"{compared} -> {record.tier}, by {record.classifier} (quality target {quality:g})"
    else:
        text = f"score {record.score:.3f} -> {record.tier}, by {record.classifier}"
        if limits is not None:
            text += f" ({_limits(limits)}, as configured now)"
    signals = [str(signal) for signal in record.detail.get("signals", ())]
    return [("judged", text), *([("signals", "; ".join(signals))] if signals else [])]


def _limits(limits: AliasConfig) -> str:
    if limits.quality_target is not None:
        return f"quality target {limits.quality_target:g}"
    named = [
        f"{tier} from {score:g}"
        for tier, score in (("moderate", limits.moderate_from), ("complex", limits.complex_from))
        if score is not None
    ]
    return ", ".join(named) or "the classifier's own thresholds"


def _considered(name: str, expected_nusd: int, worst_nusd: int) -> str:
    return f"{name}: about ${format_usd(expected_nusd)}, at most ${format_usd(worst_nusd)}"


def _refused_by(record: SpendRecord) -> list[tuple[str, str]]:
    found = record.detail.get("refused_by")
    if found is None:
        return []
    limit, spent, held, needed = (
        amount_text(found[name], found["unit"]) for name in ("limit", "spent", "held", "needed")
    )
    stood = f"of {limit}, {spent} were spent and {held} held; the cheapest way would have taken {needed}"
    return [("refused by", f"the budget {found['budget']}: {stood}")]


def _tried(attempt: dict[str, Any]) -> str:
    return f"{attempt.get('deployment')}: {attempt.get('error') or 'answered'}"


def _tokens(record: SpendRecord) -> str:
    sources = {
        "provider": "as the provider counted",
        "counted": "as we counted",
        "cache": "of the answer that was repeated",
        "reserved": "unknown",
        "none": "none",
    }
    return f"{record.input_tokens} input, {record.output_tokens} output ({sources[record.usage_source]})"


def _cost_in_words(explanation: Explanation) -> str:
    record = explanation.record
    if explanation.cost is not None:
        retries = f"; and ${format_usd(record.retries_nusd)} for attempts before" if record.retries_nusd else ""
        return explanation.cost.in_words() + retries
    amount = f"${format_usd(record.cost_nusd)}"
    if record.cache == "hit":
        return f"{amount}: a repeat costs nothing"
    if record.usage_source == "reserved":
        return f"{amount}: booked at its reservation, since the process died that served it"
    if record.usage_source == "none":
        return f"{amount}: no tokens were used"
    return f"{amount} as booked; today's configuration no longer has the price it was reckoned with"


def _baseline_in_words(explanation: Explanation) -> str:
    record = explanation.record
    if record.kind != "request":
        return "nothing: it measures what the baseline costs another request"
    if explanation.baseline is not None:
        return f"{explanation.baseline.in_words()} ({_basis(explanation)})"
    amount = f"${format_usd(record.baseline_cost_nusd)} on {record.baseline_model}"
    if not record.baseline_cost_nusd:
        return f"{amount}: there was no answer to compare with"
    return f"{amount}, as reckoned with another price (an estimate)"


def _basis(explanation: Explanation) -> str:
    record, cost = explanation.record, explanation.cost
    if cost is not None and cost.model == record.baseline_model:
        return "exact: the baseline itself answered"
    return f"an estimate, {record.estimator}" if record.estimator else "an estimate"


# ---- for programs --------------------------------------------------------------------------------


def _thresholds(limits: AliasConfig) -> dict[str, float | None]:
    """None stands for the classifier's own."""
    if limits.quality_target is not None:
        return {"quality_target": limits.quality_target}
    return {"moderate_from": limits.moderate_from, "complex_from": limits.complex_from}


def explanation_as_json(explanation: Explanation) -> dict[str, Any]:
    record, limits = explanation.record, explanation.thresholds
    return {
        **record.to_json(),
        "reason_in_words": REASONS.get(record.reason),  # type: ignore[call-overload]
        "thresholds_now": limits and _thresholds(limits),
        "cost_arithmetic": explanation.cost and explanation.cost.as_json(),
        "baseline_arithmetic": explanation.baseline and explanation.baseline.as_json(),
        "cost_usd": format_usd(record.cost_nusd),
        "baseline_cost_usd": format_usd(record.baseline_cost_nusd),
        "repricings": versions_as_json(record, explanation.replaced),
        "drivers_nusd": drivers(record),
        "saved_nusd": record.savings_nusd,
        "saved_usd": format_usd(record.savings_nusd),
    }

"""One block of a log -> verdicts: each request is classified and priced once, for all settings.

Rows without the prompt's text cannot be judged. They stay as they were, on every side of every comparison: the same
cost, no saving. So do requests that the server would refuse. That can only make savings look smaller.
"""

from __future__ import annotations

import zlib
from datetime import UTC, date, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, NamedTuple

import orjson

from classifiers.base import TIERS, Tier
from policies.catalog import Deployment, PriceSchedule
from policies.pricing import cost_nusd
from policies.routing import NoRoute, RoutingFacts, decide
from policies.schedules import DAY_MS
from policies.usage import TokenUsage
from router.errors import InvalidRequest
from router.lineup import choose_classifier
from router.openai.requests import MAX_CHOICES, ChatRequest, canonical_digest, parse_chat_request
from router.prices import ModelInfo, UnknownModel, load_prices
from router.replay.answers import answer_tokens_of, undated
from router.replay.formats import read_record
from router.replay.plan import Plan
from router.replay.records import Record, records_of
from router.replay.rows import MAX_COST_NUSD, BadRow, LoggedRequest, NoCall
from router.replay.sources import Block
from router.replay.verdicts import (
    COUNTED,
    GROUPS,
    PRICED,
    UNDATED,
    UNROUTABLE,
    BadLine,
    Columns,
    Marks,
    TierOutcome,
    Verdicts,
)
from router.tokenizers import TokenCounter

TOLERATED_AHEAD_MS = 3_600_000
"""A clock may be wrong by so much; beyond, the row's time is a mistake."""
_REMEMBERED_MODELS = 4_096
_GROUP_BY_CHARS = 512
_UNCACHED_TEMPERATURE = 1.0
"""A request without one counts as this, as in the server."""


class Priced(NamedTuple):
    """A cost in nano-USD, and how much of it hangs on an answer's length that is not known."""

    cost: int
    open_cost: int


class Call(NamedTuple):
    """The call that the log tells of: which model answered, in how many tokens and choices, when; in a batch?."""

    model: ModelInfo
    usage: TokenUsage
    day: date
    batch: bool
    choices: int


class Judged(NamedTuple):
    """A request that was judged, and what would come of it in each tier."""

    request: ChatRequest
    score: float
    outcomes: tuple[TierOutcome, ...]


Unjudged = Literal["without_text", "unroutable"]
"""Why a request stays as it was; the name of its count."""


class Judge:
    """Holds the classifier and the price list; one for each process."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._classifier = choose_classifier(plan.config)
        self._prices = load_prices(plan.config.prices)
        self._counters: dict[str | None, TokenCounter] = {}
        self._model = lru_cache(_REMEMBERED_MODELS)(self._find_model)
        self._index = {deployment.name: index for index, deployment in enumerate(plan.candidates)}
        self._moderate = [(setting.moderate_from, setting.complex_from) for setting in plan.settings]

    def judge(self, block: Block) -> Verdicts:
        """Never raises for what a log holds."""
        columns = Columns()
        for line, record in records_of(block, self._plan.columns):
            try:
                self._row(record, block.start.file, line, columns)
            except NoCall:
                columns.unanswered += 1
            except BadRow as wrong:
                columns.bad.append(BadLine(line, wrong.kind, str(wrong)))
            except Exception as error:  # noqa: BLE001 - the border of foreign data: one row of a million ends nothing
                columns.bad.append(BadLine(line, "broken record", f"cannot be read ({type(error).__name__})"))
        return columns.verdicts(block.next, block.read_bytes)

    def _row(self, record: Record | BadRow, file: int, line: int, columns: Columns) -> None:
        if isinstance(record, BadRow):
            raise record
        if "custom_id" in record and "body" not in record:
            record["body"] = self._plan.batches.body_of(record["custom_id"])
        logged = read_record(record, self._plan.format)
        at_ms = self._time(logged)
        call = self._call(logged, at_ms)
        paid = logged.cost_nusd
        if paid is None:
            paid = cost_nusd(call.usage, call.model.prices.at(call.day), call.batch)
        judged = self._judged(logged, call)
        marks = Marks(_identity(logged, call), line, _flags(logged) | (UNROUTABLE if judged == "unroutable" else 0))
        if isinstance(judged, str):
            _check_amounts(paid)
            columns.kept.append((zlib.crc32(b"%d:%d" % (file, line)) % GROUPS, paid))
            columns.kept_marks.append(marks)
        else:
            baseline = self._priced(self._plan.baseline.prices, call)
            _check_amounts(paid, baseline.cost, *[outcome.cost for outcome in judged.outcomes])
            digest = 0 if at_ms is None else self._digest(judged.request, logged.application)
            row = (_group(judged.request), digest, (at_ms or 0) // 1_000, judged.score, paid, *baseline)
            columns.judged.append(row)
            columns.tiers.append(judged.outcomes)
            columns.marks.append(marks)

    def _call(self, logged: LoggedRequest, at_ms: int | None) -> Call:
        found = self._model(logged.model)
        if isinstance(found, str):
            raise BadRow("unknown model", found)
        day = _day((self._plan.now_ms if at_ms is None else at_ms) // DAY_MS)
        choices = 1 if logged.body is None else logged.body.get("n")
        known = choices if isinstance(choices, int) and 0 < choices <= MAX_CHOICES else 1
        return Call(found, logged.usage or self._counted(logged, found), day, logged.batch, known)

    def _judged(self, logged: LoggedRequest, call: Call) -> Judged | Unjudged:
        if logged.body is None:
            return "without_text"
        try:
            request = parse_chat_request(orjson.dumps({"model": logged.model, **logged.body}), logged.application)
        except InvalidRequest:
            return "unroutable"
        said = self._classifier.classify(request.prompt)
        length = None if said.output_length is None else said.output_length.expected_tokens
        outcomes: list[TierOutcome] = []
        for tier in TIERS:
            if tier == "moderate" and not any(least <= said.score < most for least, most in self._moderate):
                outcomes.append(outcomes[0])  # which nobody will look at
                continue
            chosen = self._chosen(request, call, tier, length)
            if chosen is None:
                return "unroutable"
            outcomes.append(self._outcome(chosen, call, said.score))
        return Judged(request, said.score, tuple(outcomes))

    def _chosen(self, request: ChatRequest, call: Call, tier: Tier, length: int | None) -> Deployment | None:
        """The deployment that the server would try first; None where it would refuse."""
        facts = RoutingFacts(
            candidates=self._plan.candidates,
            tier=tier,
            needs=request.needs,
            input_tokens=call.usage.input_tokens,
            max_output_tokens=request.max_output_tokens,
            allowed=None,
            unavailable=frozenset(),
            max_fallbacks=self._plan.max_fallbacks,
            day=call.day,
            expected_output_tokens=length,
        )
        decision = decide(facts)
        return None if isinstance(decision, NoRoute) else decision.options[0].deployment

    def _outcome(self, chosen: Deployment, call: Call, score: float) -> TierOutcome:
        """Whatever is no model of the hardest tier is taken for the small one, of which the score speaks."""
        cost, open_cost = self._priced(chosen.prices, call._replace(batch=False), chosen.max_output_tokens)
        as_good = chosen.tier == TIERS[-1] or undated(chosen.prices.model) == undated(self._plan.baseline.prices.model)
        return TierOutcome(self._index[chosen.name], cost, open_cost, 0 if as_good else round(score * 1_000_000))

    def _priced(self, prices: PriceSchedule, call: Call, most: int | None = None) -> Priced:
        """What the request costs on a model: for certain on the one that answered it, else an estimate.

        A discount for cached input is granted to the model that answered alone: whether another provider's cache
        would have held it, nobody knows.
        """
        price, usage = prices.at(call.day), call.usage
        if undated(prices.model) == undated(call.model.prices.model):
            return Priced(cost_nusd(usage, price, call.batch), 0)
        output_tokens = answer_tokens_of(
            self._plan.lengths,
            prices.model,
            undated(call.model.prices.model),
            usage.output_tokens,
            call.choices,
            most,
        )
        cost = cost_nusd(TokenUsage(usage.input_tokens, output_tokens), price, call.batch)
        return Priced(cost, cost - cost_nusd(TokenUsage(usage.input_tokens, 0), price, call.batch))

    def _time(self, logged: LoggedRequest) -> int | None:
        if logged.at_ms is not None and logged.at_ms > self._plan.now_ms + TOLERATED_AHEAD_MS:
            at = datetime.fromtimestamp(min(logged.at_ms // 1_000, 253_402_300_799), UTC)
            raise BadRow("clock in the future", f"time: found {at:%Y-%m-%dT%H:%M:%SZ}, which is yet to come")
        return logged.at_ms

    def _counted(self, logged: LoggedRequest, found: ModelInfo) -> TokenUsage:
        """Raises BadRow where there is nothing to count."""
        if logged.body is None or logged.answer is None:
            gap = "no prompt" if logged.body is None else "no answer"
            raise BadRow("missing usage", f"found no tokens of both sides, and {gap} to be counted")
        counter = self._counters.get(found.tokenizer)
        if counter is None:
            counter = self._counters[found.tokenizer] = TokenCounter(found.tokenizer)
        input_tokens = counter.count_messages(logged.body["messages"], logged.body.get("tools"))
        return TokenUsage(input_tokens, counter.count_text(logged.answer))

    def _find_model(self, name: str) -> ModelInfo | str:
        """By its own name, or else without its provider ("azure/"), or its version's date; a sentence if unknown."""
        named = self._plan.models.get(name, name)
        bare = named.rpartition("/")[2]
        sentence = ""
        for candidate in dict.fromkeys((named, bare, undated(bare))):
            try:
                return self._prices.model(candidate)
            except UnknownModel as error:
                sentence = sentence or f"{error}; or say whose price holds (--model {name}=...)"
        return sentence

    def _digest(self, request: ChatRequest, application: str) -> int:
        """What the response cache would know it by, in 64 bits; 0 where it would not be kept."""
        cache = self._plan.cache
        temperature = _UNCACHED_TEMPERATURE if request.temperature is None else request.temperature
        if not cache.enabled or temperature > cache.max_temperature:
            return 0
        return int(canonical_digest(request, application if cache.scope == "team" else "")[:16], 16)


def _flags(logged: LoggedRequest) -> int:
    counted = COUNTED if logged.usage is None else 0
    return counted | (UNDATED if logged.at_ms is None else 0) | (PRICED if logged.cost_nusd is None else 0)


def _identity(logged: LoggedRequest, call: Call) -> int:
    """Of a row that has a name and a time, in 63 bits; else 0. A name that is not the row's own, such as a user's, is
    told by the rest of it."""
    if not logged.id or logged.at_ms is None:
        return 0
    said = f"{logged.id}\0{logged.at_ms}\0{logged.model}\0{call.usage}\0{logged.cost_nusd}"
    return int.from_bytes(blake2b(said.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1


def _check_amounts(*amounts_nusd: int) -> None:
    if max(amounts_nusd) > MAX_COST_NUSD:
        raise BadRow("implausible tokens", "found so many that the request would cost more than $1,000")


@lru_cache(maxsize=4_096)
def _day(days: int) -> date:
    """The date so many days after 1970-01-01, UTC."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + days)


def _group(request: ChatRequest) -> int:
    """By how the first question begins: a conversation's requests, and repeats of one, are no independent draws."""
    asked = next((message.text for message in request.prompt.messages if message.role == "user"), "")
    return zlib.crc32(asked[:_GROUP_BY_CHARS].encode("utf-8", "replace")) % GROUPS

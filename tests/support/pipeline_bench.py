"""The whole pipeline over real fakes: providers that follow a script, a store in memory, time by hand."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import orjson

from classifiers.base import Classification, Prompt, Tier, tier_of
from policies.baseline import Baseline
from policies.budget import Budget
from policies.catalog import Capability, Deployment, Price, PriceSchedule
from router.clock import Clock
from router.config_shadow import ShadowConfig
from router.errors import InvalidApiKey
from router.pipeline.accounts import Accountant
from router.pipeline.authenticate import Authenticator
from router.pipeline.chat import CachePolicy, ChatPipeline, Incoming
from router.pipeline.circuit import Circuit
from router.pipeline.decide import Decider
from router.pipeline.dispatch import Dispatcher, RetryPolicy, Target, Timeouts
from router.pipeline.models import Alias, Models
from router.pipeline.reply import Headers
from router.pipeline.respond import Responder
from router.pipeline.settle import Settler
from router.pipeline.shadow import Shadower
from router.pipeline.shadow_call import ShadowCall
from router.stores.base import Principal
from router.telemetry import Telemetry
from router.tokenizers import TokenCounter
from tests.support.memory_admission import MemoryAdmissionStore
from tests.support.scripted_provider import ScriptedProvider, completion

SECRET = "pk-test"
TOKENIZER = "cl100k_base"
BASELINE = "gpt-4"
# Nano-USD per million tokens, input and output.
PRICES = {
    "small": (1_000_000, 2_000_000),
    "medium": (5_000_000, 10_000_000),
    "large": (30_000_000, 60_000_000),
}


ONE_ATTEMPT = RetryPolicy(1, 0.0, 0.0)
PATIENT = Timeouts(5.0, 5.0)


@dataclass(slots=True)
class HandClock:
    """Stands still until somebody moves it."""

    now_s: float = 1_793_500_000.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now_s, monotonic=lambda: self.now_s - 1_793_000_000.0)


class WordClassifier:
    """A prompt is as hard as it says: with the word "hard" in it, or its own application's name, complex."""

    def classify(self, prompt: Prompt) -> Classification:
        text = prompt.messages[-1].text
        own_name = bool(prompt.application) and prompt.application in text
        score = 0.9 if "hard" in text or own_name else 0.1
        return Classification(score, tier_of(score, 0.35, 0.65), ("said so",), "words")


class KnownKeys(Authenticator):
    """Knows every key from the start: no thread decides which of two requests comes first."""

    def __init__(self, principals: Mapping[str, Principal]) -> None:
        self._principals = principals

    async def authenticate(self, authorization: bytes | None) -> Principal:
        secret = (authorization or b"").removeprefix(b"Bearer ").decode()
        if secret not in self._principals:
            raise InvalidApiKey("unknown")
        return self._principals[secret]


@dataclass(slots=True)
class CollectedReply:
    """Collects what is sent, as the HTTP layer would pass it on. `left` is set when the client goes."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    ended: bool = False
    gone: bool = False
    keep_going: Any = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once anything has been sent."""

    async def start(self, status: int, headers: Headers) -> None:
        assert self.status == 0, "started twice"
        self.status, self.headers = status, dict(headers)

    async def send(self, data: bytes, *, last: bool = False) -> None:
        assert self.status, "sent before the start"
        assert not self.ended, "sent after the end"
        self.ended = last
        if not self.gone:
            self.parts.append(data)
            self.heard.set()
        await asyncio.sleep(0)

    def leave(self, task: asyncio.Task[Any]) -> None:
        """What router.api.asgi does when the client disconnects."""
        self.gone = True
        if not (self.keep_going is not None and self.keep_going()):
            task.cancel()

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def json(self) -> Any:
        return orjson.loads(self.body)

    def events(self) -> list[Any]:
        """The data of each event of a stream; [DONE] as the string it is."""
        data = [event.removeprefix(b"data: ") for event in self.body.split(b"\n\n") if event]
        return [event.decode() if event == b"[DONE]" else orjson.loads(event) for event in data]

    def text(self) -> str:
        deltas = [event["choices"][0]["delta"] for event in self.events() if event != "[DONE]" and event.get("choices")]
        return "".join(delta.get("content") or "" for delta in deltas)

    def header(self, name: str) -> str | None:
        value = self.headers.get(f"x-parsimony-{name}".encode())
        return None if value is None else value.decode()


def deployment(
    name: str,
    tier: Tier,
    *,
    context_window: int = 8_192,
    max_output_tokens: int = 100,
    capabilities: frozenset[Capability] = frozenset(),
    cached_nusd: int | None = None,
) -> Deployment:
    input_price, output_price = PRICES[name]
    return Deployment(
        name=name,
        provider_name=f"{name}-provider",
        model=f"wire-{name}",
        tier=tier,
        context_window=context_window,
        max_output_tokens=max_output_tokens,
        capabilities=capabilities,
        prices=PriceSchedule(
            BASELINE if name == "large" else name, (Price(date(2024, 1, 1), input_price, output_price, cached_nusd),)
        ),
        tokenizer=TOKENIZER,
    )


class PipelineBench:
    """One team with one key behind `auto`, which leads to `small` (simple) and `large` (complex, the baseline).

    `with_medium` adds a moderate one between them.
    """

    def __init__(
        self,
        providers: Mapping[str, ScriptedProvider] | None = None,
        *,
        limit_nusd: int | None = None,
        budgets: tuple[Budget, ...] = (),
        allowed_models: frozenset[str] | None = None,
        retries: RetryPolicy = ONE_ATTEMPT,
        timeouts: Timeouts = PATIENT,
        max_temperature: float = 1.0,
        max_entry_bytes: int = 100_000,
        per_team: bool = True,
        stream_usage: bool = True,
        failures: int = 3,
        max_fallbacks: int = 2,
        with_medium: bool = False,
        max_output_tokens: int = 100,
        observe: bool = False,
        shadow_share: float = 0.0,
        shadow_limit_usd: str = "1",
        alias_shadow: bool = True,
        large_context_window: int = 8_192,
        cached_nusd: Mapping[str, int] | None = None,
    ) -> None:
        self.hand = HandClock()
        self.providers = {"small": ScriptedProvider(completion()), "large": ScriptedProvider(completion("Deep."))}
        self.providers |= dict(providers or {})
        self.deployments = {
            "small": deployment("small", "simple", max_output_tokens=max_output_tokens),
            "large": deployment(
                "large",
                "complex",
                max_output_tokens=max_output_tokens,
                context_window=large_context_window,
                cached_nusd=(cached_nusd or {}).get("large"),
            ),
        }
        if with_medium:
            self.deployments["medium"] = deployment("medium", "moderate")
            self.providers.setdefault("medium", ScriptedProvider(completion("Middling.")))
        clock = self.hand.clock()
        self.store = MemoryAdmissionStore(clock.wall)
        self.telemetry = Telemetry()
        targets = {
            name: Target(name, self.providers[name], Circuit(failures, 10.0), timeouts, f"wire-{name}", stream_usage)
            for name in self.deployments
        }
        alias = Alias(
            "auto", tuple(self.deployments.values()), 0.35, 0.65, max_fallbacks,
            answered_by=self.deployments["large"] if observe else None, shadow=alias_shadow,
        )  # fmt: skip
        models = Models({"auto": alias}, self.deployments)
        self.dispatcher = Dispatcher(targets, retries, clock, jitter=lambda: 0.0)
        self.counter = TokenCounter(TOKENIZER)
        prices = self.deployments["large"].prices
        accountant = Accountant(Baseline(BASELINE, prices, TOKENIZER), {TOKENIZER: self.counter})
        if limit_nusd is not None:
            budgets += (Budget(id="b1", subject_kind="team", subject_id="team-1", limit=limit_nusd),)
        self.principals = {
            SECRET: Principal("key-1", "team-1", "application", allowed_models, budgets),
            "pk-other": Principal("key-2", "team-2", "application", None, ()),
        }
        ids = itertools.count(1)
        settler = Settler(self.store, self.telemetry, 3_600)
        responder = Responder(accountant, targets, clock, max_entry_bytes)
        self.lost: Counter[str] = Counter()
        call = ShadowCall(
            budget=ShadowConfig(limit_usd=shadow_limit_usd).budget(),
            target=targets["large"],
            accountant=accountant,
            responder=responder,
            admission=self.store,
            settler=settler,
            clock=clock,
            new_request_id=lambda: f"chatcmpl-{next(ids)}",
        )
        self.shadower = Shadower(
            share=shadow_share, deployment=self.deployments["large"], models=models, call=call, losses=self.lost
        )
        self.pipeline = ChatPipeline(
            authenticator=KnownKeys(self.principals),
            decider=Decider(models, WordClassifier(), self.dispatcher.unavailable),
            dispatcher=self.dispatcher,
            responder=responder,
            accountant=accountant,
            admission=self.store,
            settler=settler,
            cache=CachePolicy(True, per_team, 3_600, max_entry_bytes, max_temperature),
            telemetry=self.telemetry,
            clock=clock,
            new_request_id=lambda: f"chatcmpl-{next(ids)}",
            shadower=self.shadower if shadow_share else None,
        )

    def start(
        self,
        text: str = "Hello",
        *,
        secret: str = SECRET,
        no_cache: bool = False,
        no_store: bool = False,
        tags: bytes = b"",
        no_shadow: bool = False,
        **changes: Any,
    ) -> tuple[asyncio.Task[None], CollectedReply]:
        """A request under way, and its reply."""
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]} | changes
        incoming = Incoming(orjson.dumps(body), no_cache, no_store, tags, no_shadow)
        reply = CollectedReply()
        return asyncio.ensure_future(self._answer(b"Bearer " + secret.encode(), incoming, reply)), reply

    async def _answer(self, authorization: bytes, incoming: Incoming, reply: CollectedReply) -> None:
        principal = await self.pipeline.authenticate(authorization)
        await self.pipeline.answer(principal, incoming, reply)

    async def ask(self, text: str = "Hello", **changes: Any) -> CollectedReply:
        """A request, answered; what the pipeline raises comes through."""
        task, reply = self.start(text, **changes)
        await task
        return reply

    @property
    def calls(self) -> int:
        return sum(len(provider.bodies) for provider in self.providers.values())

    def records(self) -> list[dict[str, Any]]:
        return self.store.records()

    def record(self) -> dict[str, Any]:
        (record,) = self.records()
        return record

    def spent(self) -> tuple[int, int]:
        """(spent, reserved) of the one budget."""
        (counter,) = self.store.counters.values()
        return counter.spent, counter.reserved

    def check_books(self) -> None:
        """Every request is settled exactly once, those too that left before they were let in; nothing is left open.

        Of a shadow that a budget refused there is no record: nothing was asked of anybody.
        """
        assert set(self.store.settlements.values()) <= {1}
        assert len(set(self.store.asked) - set(self.store.settlements)) == self.lost["budget"]
        assert self.store.pending == {}
        assert all(counter.reserved == 0 for counter in self.store.counters.values())
        assert all(answer.closed for provider in self.providers.values() for answer in provider.answers)

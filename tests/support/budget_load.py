"""Load that brings budgets to their edge: requests of random size, and a provider that bills all that it may."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import aiohttp

from policies.budget import Budget
from policies.pricing import cost_nusd
from policies.usage import TokenUsage
from router.prices import ModelInfo
from router.tokenizers import TOKENS_PER_MESSAGE, TOKENS_PER_REPLY, load_encoding
from tests.support.server import Server
from tests.support.upstream import Received, Step, answer, status, stream

CLIENT_COUNT = 64
MAX_OUTPUT_TOKENS = 384
"""What a deployment of the load answers at most where nothing else bounds it: its configuration says so, too."""
TIMEOUT_S = 40.0
AGAIN_S = 0.3
EVER_MS = 2**53

_WORDS = ("budget", "tide", "Zürich", "预算", "🧮", "naïve", "def f(x):", "3.14159", "слово", "a")
_WHOLE = 10**6


@dataclass(slots=True)
class Asked:
    """One request to be made. Its client leaves after `chunks` of the answer, or when it loses patience."""

    case: str
    secret: str
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: int = _WHOLE
    patience_s: float = TIMEOUT_S


@dataclass(slots=True)
class Seen:
    """What its client saw of one request. A `status` of 0 is a connection that broke, and `code` then says how."""

    asked: Asked
    status: int = 0
    request_id: str = ""
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False


def request_body(case: str, number: int, model: str, dice: random.Random) -> dict[str, Any]:
    """A request whose prompt nobody else sends: its length, its limit, its choices and its form are left to chance."""
    words = " ".join(dice.choices(_WORDS, k=dice.randint(2, 90)))
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": f"{case}|{number}|{words}"}]}
    if dice.random() < 0.3:
        body["messages"].insert(0, {"role": "system", "content": "Be brief."})
    if dice.random() < 0.8:
        body[dice.choice(("max_tokens", "max_completion_tokens"))] = dice.randint(1, 160)
    if dice.random() < 0.2:
        body["n"] = dice.randint(2, 3)
    if dice.random() < 0.4:
        body["stream"] = True
        if dice.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
    return body


class GreedyProvider:
    """Bills anything from a token to all that a request allows, and that often; keeps account of it.

    A prompt comes to what the tokenizer of the model makes of it; where that is nobody's to know, to as many tokens as
    it has bytes. `silent_share` of the answers come without usage, `failing_share` fail before they begin.
    """

    def __init__(
        self,
        models: Mapping[str, ModelInfo],
        *,
        pause_s: float = 0.004,
        silent_share: float = 0.0,
        failing_share: float = 0.0,
    ) -> None:
        self._models = models
        self.billed_nusd = 0
        self._pause_s = pause_s
        self._silent_share = silent_share
        self._failing_share = failing_share

    def usage_of(self, model: str, body: Mapping[str, Any]) -> TokenUsage:
        """What this provider bills for a body, always the same for the same prompt and limit."""
        dice = _dice(body)
        most = body.get("max_tokens") or body.get("max_completion_tokens") or MAX_OUTPUT_TOKENS
        most_input = self._most_input_tokens(model, body["messages"])
        output_tokens = dice.choice((most, dice.randint(1, most))) * (body.get("n") or 1)
        input_tokens = dice.choice((most_input, dice.randint(1, most_input)))
        return TokenUsage(
            input_tokens,
            output_tokens,
            cached_input_tokens=dice.choice((0, 0, dice.randint(0, input_tokens))),
            reasoning_tokens=dice.choice((0, 0, dice.randint(0, output_tokens))),
        )

    def cost_nusd(self, model: str, usage: TokenUsage) -> int:
        return cost_nusd(usage, self._models[model].prices.at(date.today()))

    def _most_input_tokens(self, model: str, messages: Sequence[Mapping[str, Any]]) -> int:
        texts = [message["content"] for message in messages]
        tokenizer = self._models[model].tokenizer
        if tokenizer is None:
            return sum(len(text.encode()) for text in texts)
        encoding = load_encoding(tokenizer)
        return TOKENS_PER_REPLY + sum(TOKENS_PER_MESSAGE + len(encoding.encode_ordinary(text)) for text in texts)

    def __call__(self, request: Received) -> list[Step]:
        body = request.body
        dice = _dice(body, "manner")
        if dice.random() < self._failing_share:
            return status(500)(request)
        usage = self.usage_of(request.model, body)
        self.billed_nusd += self.cost_nusd(request.model, usage)
        told = None if dice.random() < self._silent_share else _on_the_wire(usage)
        pause_s = dice.random() * self._pause_s
        # Fewer words than the least limit allows tokens: counting them must not come to more than the bound.
        if not request.stream:
            return answer("yes", usage=told, delay_s=pause_s)(request)
        return stream(["y"] * _stream_length(body), usage=told, head_s=pause_s, pause_s=pause_s)(request)


def _stream_length(body: Mapping[str, Any]) -> int:
    return min(body.get("max_tokens") or body.get("max_completion_tokens") or MAX_OUTPUT_TOKENS, 6)


def _dice(body: Mapping[str, Any], what: str = "usage") -> random.Random:
    return random.Random(zlib.crc32(f"{what}|{body['messages'][-1]['content']}".encode()))


def _on_the_wire(usage: TokenUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def most_at_once(calls: Sequence[Received]) -> int:
    """How many of the calls were under way at the same time, as their provider saw it."""
    turns = [(call.received_s, 1) for call in calls]
    turns += [(ended_s, -1) for call in calls if (ended_s := call.played_s or call.closed_s) is not None]
    under_way = highest = 0
    for _, change in sorted(turns):
        under_way += change
        highest = max(highest, under_way)
    return highest


class Crowd:
    """Clients that ask one request after the other, all at once; `seen` is in the order in which they were answered.

    Requests that were not served because a store was away are asked again, `persistence` times altogether.
    """

    def __init__(self, url: str, requests: Iterable[Asked], *, persistence: int = 0) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._left = deque(requests)
        self._persistence = persistence
        self.seen: list[Seen] = []
        self.on_seen: Callable[[int], None] = lambda _: None
        """Called with how many have been answered by now."""

    def run(self) -> list[Seen]:
        asyncio.run(self._run())
        return self.seen

    async def _run(self) -> None:
        # A connection that has been idle as long as the server keeps one may close under the next request.
        connector = aiohttp.TCPConnector(limit=CLIENT_COUNT, keepalive_timeout=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._ask_on(session) for _ in range(CLIENT_COUNT)))

    async def _ask_on(self, session: aiohttp.ClientSession) -> None:
        while self._left:
            asked = self._left.popleft()
            seen = Seen(asked)
            try:
                await self._ask(session, asked, seen)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                seen.code = type(error).__name__
                # Whoever lost its server waits before it asks the next one.
                await asyncio.sleep(0.1)
            if seen.status == 503 and self._persistence:
                self._persistence -= 1
                self._left.append(asked)
                await asyncio.sleep(AGAIN_S)
                continue
            self.seen.append(seen)
            self.on_seen(len(self.seen))

    async def _ask(self, session: aiohttp.ClientSession, asked: Asked, seen: Seen) -> None:
        headers = {"authorization": f"Bearer {asked.secret}", **asked.headers}
        patience = aiohttp.ClientTimeout(total=asked.patience_s)
        async with session.post(self._url, json=asked.body, headers=headers, timeout=patience) as response:
            seen.status = response.status
            seen.headers = {name.lower(): value for name, value in response.headers.items()}
            seen.request_id = response.headers.get("x-parsimony-request-id", "")
            if asked.chunks < _WHOLE:
                for _ in range(asked.chunks):
                    await response.content.readany()
                response.close()
                return
            body = await response.read()
        if seen.status == 200:
            seen.whole = not asked.body.get("stream") or body.endswith(b"data: [DONE]\n\n")
        else:
            seen.code = str(json.loads(body)["error"]["code"])


def assert_books_agree(server: Server) -> None:
    """Every budget's counter is what the ledger adds up to; nothing is held, nothing waits, nothing went astray."""
    stores = server.stores()
    budgets = stores.directory.list_budgets()
    for budget in budgets:
        bucket_ms = budget.parsed_window.bucket_ms
        sums = stores.ledger.usage(budget, 0, EVER_MS, bucket_ms or None)
        users = {user for user, _ in sums} if budget.is_of_every_user else {""}
        for user in users:
            fields = server.fields(budget, user)
            assert fields.pop("reserved", 0) == 0, f"{budget.id} still holds something for {user!r}"
            of_user = {bucket: amount for (who, bucket), amount in sums.items() if who == user}
            name = f"{budget.id} {user}".strip()
            if bucket_ms:
                _assert_parts_agree(name, fields, of_user)
            else:
                counted, booked = fields.get("spent", 0), sum(of_user.values())
                assert counted == booked, f"{name}: the counter is {counted - booked:+d} from the ledger"
    assert server.pending() == 0
    with server.redis() as client:
        assert client.xlen("{parsimony}:spend:dead") == 0


def _assert_parts_agree(name: str, fields: dict[str, int], sums: Mapping[int, int]) -> None:
    """Of a rolling counter: those parts that have not left it."""
    oldest, spent = fields.get("oldest", 0), fields.get("spent", 0)
    parts = {int(field[1:]): amount for field, amount in fields.items() if field[1:].isdigit() and amount}
    assert spent == sum(parts.values()), f"the parts of {name} are not what it has spent"
    assert parts == {part: amount for part, amount in sums.items() if part >= oldest}, f"counter and ledger: {name}"


def most_in_a_minute(server: Server, budget: Budget) -> int:
    """The most that the ledger has of any sixty seconds; by second, the first and the last of which count in full."""
    sums = server.stores().ledger.usage(budget, 0, EVER_MS, 1_000)
    by_second = {second: amount for (_, second), amount in sums.items()}
    return max(
        (sum(amount for at, amount in by_second.items() if first <= at < first + 60) for first in by_second), default=0
    )

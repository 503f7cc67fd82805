"""Where the pipeline writes its answer: the client's side, as dispatch's targets are the providers'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Headers = Sequence[tuple[bytes, bytes]]


class Reply(Protocol):
    """One response. `start` once, then `send`, the last time with `last`."""

    keep_going: Callable[[], bool] | None
    """Asked when the client has gone: whether somebody else still wants the answer. If not, the
    request is cancelled."""

    gone: bool
    """The client has gone; what is sent now reaches nobody."""

    async def start(self, status: int, headers: Headers) -> None: ...

    async def send(self, data: bytes, *, last: bool = False) -> None: ...

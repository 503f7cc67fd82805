"""What dispatch asks of a provider: `open` a call, read the answer whole or in pieces."""

from __future__ import annotations

from typing import Any, Protocol


class Answer(Protocol):
    """A provider's 2xx answer, its body not yet read.

    `retain` nothing: after `close` the connection is either reusable or gone.
    """

    async def read(self) -> bytes:
        """The whole body of an answer that is no stream. Raises UpstreamError."""

    async def next_chunk(self) -> bytes | None:
        """The next bytes of a server-sent-event stream as they arrived, None at its end.

        A piece may hold half an event or many. Raises UpstreamError where the stream breaks off.
        """

    async def close(self) -> None:
        """Ends the call; in mid-stream, the connection too. May be called twice."""


class Provider(Protocol):
    """One deployment's way to its model. Translates its library's exceptions; retries nothing itself."""

    async def open(self, body: dict[str, Any], *, stream: bool) -> Answer:
        """Sends the wire-format body of POST /chat/completions, its `model` already the deployment's own.

        Returns on the head of a 2xx answer. Raises UpstreamRejected for 4xx (save 401, 403, 408 and
        429), UpstreamRateLimited for 429, UpstreamTimeout for 408 and connect timeouts, and
        UpstreamUnavailable for the rest. The caller bounds the time with a timeout of its own.
        """

    async def close(self) -> None:
        """Lets go of connections."""

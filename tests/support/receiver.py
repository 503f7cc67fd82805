"""`Receiver`: a server that webhooks are posted to, and that misbehaves on demand, for each path as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.upstream import Behaviour, Received, Upstream, in_turn, page


class Receiver(Upstream):
    def __init__(self) -> None:
        super().__init__(page(200, "ok"))
        self._by_path: dict[str, Behaviour] = {}

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str, *behaviours: Behaviour) -> str:
        """From now on `path` behaves so: each behaviour once, the last one for good. Returns its URL."""
        self._by_path[path] = in_turn(*behaviours)
        return self.url(path)

    def posted(self, path: str = "/hook") -> list[Received]:
        return [request for request in self.received if request.path == path]

    def behaviour_for(self, request: Received) -> Behaviour:
        return self._by_path.get(request.path, self.default)


@contextmanager
def receiver_server() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()

"""One scripted upstream and one server a module: starting them anew for each test would take most of the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.upstream import Upstream, upstream_server


@pytest.fixture(scope="module")
def module_upstream() -> Iterator[Upstream]:
    with upstream_server() as upstream:
        yield upstream


@pytest.fixture
def upstream(module_upstream: Upstream) -> Iterator[Upstream]:
    """The module's upstream, with nothing scripted and nothing received."""
    module_upstream.reset()
    yield module_upstream
    module_upstream.reset()

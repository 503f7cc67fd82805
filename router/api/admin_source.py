"""What the admin API is served from."""

from __future__ import annotations

from typing import Protocol

from router.config import Config
from router.reports.spenders import Rates
from router.reports.versions import Repricings
from router.stores.administration import ActingStores
from router.stores.cells import Books


class AdminSource(ActingStores, Protocol):
    """The stores, who spent what, what was corrected, and the configuration whose prices explain a request."""

    @property
    def config(self) -> Config: ...

    @property
    def books(self) -> Books: ...

    @property
    def rates(self) -> Rates: ...

    @property
    def repricings(self) -> Repricings: ...

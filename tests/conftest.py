"""What every test shares: property tests without deadlines, and an environment that holds nobody's credentials and
hears an interrupt."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

# The machine may be busy; a slow example is no failure, and a failing one must be the same for everyone.
settings.register_profile("parsimony", deadline=None, derandomize=True)
settings.load_profile("parsimony")

CREDENTIALS = ("OPENAI_API_KEY", "MISTRAL_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL")


def pytest_configure() -> None:
    # A shell's background job ignores interrupts, and hands that down to the processes that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the suite pays for nothing: the keys of their shell are not there."""
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)

"""What `serve` does first, where a store is away. What it does where none is: see tests/e2e/test_serve.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.cli.first_start import prepare
from router.config import load_config
from router.errors import StoreUnavailable

EXAMPLE = Path(__file__).resolve().parents[2] / "configs" / "parsimony.yaml"


def test_a_redis_that_is_away_is_told_in_a_sentence(tmp_path: Path) -> None:
    """After the key, which would not be told again."""
    redis_away = load_config(EXAMPLE).redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    settings = load_config(EXAMPLE).model_copy(update={"data_dir": tmp_path, "redis": redis_away})
    told: list[str] = []
    with pytest.raises(StoreUnavailable, match=r"^Redis cannot be used: .*127\.0\.0\.1:1"):
        prepare(settings, told.append)
    assert len(told) == 1

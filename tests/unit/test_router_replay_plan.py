"""The plan of a replay is known again by whoever goes on with it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from policies.answer_lengths import ALL_ALIKE
from tests.support.logs import plan_for


def test_another_process_has_the_same_digest() -> None:
    """Sets have another order there."""
    code = "from tests.support.logs import plan_for; print(plan_for().digest())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {f"{plan_for().digest()}\n"}


def test_a_digest_is_of_the_options_the_deployments_and_the_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for()
    others = [plan_for((0.8,)), plan_for(columns={"model": "Model"}), plan_for(log_format="azure")]
    monkeypatch.setattr("router.replay.plan.answer_lengths_beside", lambda prices: ALL_ALIKE)
    digests = {plan.digest(), *(other.digest() for other in others), plan_for().digest()}
    assert len(digests) == 5

"""Which of the configured deployments serve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from router.config import Config, DeploymentConfig
from router.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Lineup:
    """Which configured deployments serve, and why the others do not.

    Either all are real or all are simulated: mixing them would pass invented answers off as real ones.
    """

    active: tuple[DeploymentConfig, ...]
    disabled: tuple[tuple[str, str], ...]
    simulated: bool


def line_up(config: Config, environ: Mapping[str, str] = os.environ) -> Lineup:
    """Raises ConfigError where `simulate: never` leaves nothing to serve with."""
    gaps = {deployment.name: deployment.missing(environ) for deployment in config.deployments}
    disabled = tuple((name, gap) for name, gap in gaps.items() if gap is not None)
    active = tuple(deployment for deployment in config.deployments if gaps[deployment.name] is None)
    real = [deployment for deployment in active if deployment.provider != "simulated"]
    if config.simulate == "always" or (not real and config.simulate == "auto"):
        return Lineup(config.deployments, (), simulated=True)
    if not real:
        missing = "; ".join(f"{name}: {gap}" for name, gap in disabled)
        raise ConfigError(f"no deployment can be used, and simulate is 'never': {missing}")
    return Lineup(tuple(real), disabled, simulated=False)

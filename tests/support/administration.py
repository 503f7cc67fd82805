"""A configuration in a folder of its own, for the command line and the admin API."""

from __future__ import annotations

from pathlib import Path

PRICES = Path(__file__).resolve().parents[2] / "configs" / "prices.yaml"

CONFIG = """\
data_dir: {data_dir}
prices: {prices}
redis: {{url: "{redis_url}", timeout_seconds: 2}}
simulate: always
baseline: gpt-4
deployments:
  - {{name: small, provider: simulated, provider_name: vllm, model: mistral-7b, price: gpt-3.5-turbo, tier: simple}}
  - {{name: large, provider: simulated, provider_name: openai, model: gpt-4, price: gpt-4, tier: complex}}
aliases:
  auto: {{moderate_from: 0.4, complex_from: 0.7}}
"""


def write_config(folder: Path, redis_url: str = "unix:///nowhere/redis.sock") -> Path:
    """Two deployments, `small` and `large` (the baseline), behind the alias `auto`."""
    path = folder / "parsimony.yaml"
    path.write_text(CONFIG.format(data_dir=folder / "data", prices=PRICES, redis_url=redis_url), encoding="utf-8")
    return path

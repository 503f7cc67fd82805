"""What must hold before anything starts: names that lead somewhere, addresses and keys that can be sent.

`serve`, its workers and `parsimony config check` ask the same question here, so what the command calls
good does start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from classifiers.quality import QualityTargets
from classifiers.registry import CLASSIFIERS
from router.answer_lengths import answer_lengths_beside
from router.config import Config, DeploymentConfig
from router.errors import ConfigError
from router.hardware import hardware_problems
from router.lineup import Lineup, baseline_of, choose_classifier, line_up, quality_table, thresholds
from router.prices import PriceBook, UnknownModel, load_prices
from router.tokenizers import verify_encoding

REDIS = ("redis", "rediss", "unix")
SQL = ("sqlite", "postgresql", "postgres", "postgresql+psycopg")


def check(path: Path, config: Config, environ: Mapping[str, str] = os.environ) -> Lineup:
    """What would serve. Connects to nothing.

    Raises ConfigError with one line a problem: the file (`path`), the key, what was found and what is allowed.
    """
    prices = load_prices(config.prices)
    answer_lengths_beside(config.prices)
    found = [*_stores(config), *_classifier(config), *_prices(config, prices), *_webhooks(config, environ)]
    found += hardware_problems(config)
    try:
        lineup = line_up(config, environ)
    except ConfigError as error:
        raise _as_error(path, [*found, f"simulate: {error}"]) from None
    found += [*_aliases(config, lineup), *_baseline(config, lineup)]
    if not lineup.simulated:
        found += _addresses_and_keys(config, lineup, environ)
    if found:
        raise _as_error(path, found)
    return lineup


def _as_error(path: Path, found: list[str]) -> ConfigError:
    return ConfigError("\n".join(f"{path}: {problem}" for problem in found))


def _stores(config: Config) -> Iterator[str]:
    for key, url, schemes in (("redis.url", config.redis.url, REDIS), ("sql.url", config.sql.url, SQL)):
        # Not what was found, for it may hold a password.
        if url is not None and not _begins_with(url, schemes):
            allowed = " or ".join(f"{scheme}://" for scheme in schemes)
            yield f"{key}: is no URL that can be used; it must begin with {allowed}"


def _webhooks(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    for index, webhook in enumerate(config.alerts.webhooks):
        if gap := webhook.missing(environ):
            yield f"alerts.webhooks.{index}: {gap}"
    yield from (f"reports.{gap}" for gap in config.reports.missing(environ))


def _begins_with(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and "//" in url and parts.port != 0
    except ValueError:  # a port that is no number or too large
        return False


def _classifier(config: Config) -> Iterator[str]:
    if config.classifier.name not in CLASSIFIERS:
        yield f"classifier.name: found {config.classifier.name!r}; allowed: {', '.join(sorted(CLASSIFIERS))}"
        return
    try:
        classifier = choose_classifier(config)
        table = quality_table(config, classifier)
    except ConfigError as error:
        yield str(error)
        return
    is_moved = config.classifier.evidence is not None and config.classifier.quality_targets is None
    for name, alias in config.aliases.items():
        if is_moved and alias.quality_target is not None:
            yield _moved(name)
            continue
        try:
            thresholds(name, alias, classifier, table)
        except ConfigError as error:
            yield str(error)


def _moved(name: str) -> str:
    return (
        f"aliases.{name}.quality_target: its threshold was calibrated for the classifier's own scores, which "
        "classifier.evidence moves; allowed: one of the two, or beside them classifier.quality_targets with a table "
        "that `parsimony classifier calibrate` made of the moved scores"
    )


def quality_notes(config: Config) -> list[str]:
    """What the quality targets of a good configuration come to, one line each, with the warnings of the table."""
    wanted = _wanted_quality(config)
    table = quality_table(config, choose_classifier(config)) if wanted else None
    if table is None:
        return []
    notes = [_quality_note(name, target, table) for name, target in wanted.items()]
    return [*notes, *_other_models(config, table)] if config.classifier.quality_targets is not None else notes


def _other_models(config: Config, table: QualityTargets) -> Iterator[str]:
    """A table of the operator's own that was calibrated on other models: names are free, so this is no error."""
    deployed = {name for each in config.deployments for name in (each.name, each.model, each.price)}
    strangers = [name for name in (table.small_model, table.baseline_model) if name not in {config.baseline, *deployed}]
    if strangers:
        yield (
            f"classifier.quality_targets: WARNING: is for {table.small_model} beside {table.baseline_model} alone, and "
            f"no deployment bears the name, model or price {' or '.join(strangers)}; calibrate for those that serve"
        )


def _quality_note(name: str, target: float, table: QualityTargets) -> str:
    entry = table.threshold_for(target)
    served_as = "" if entry.target == target else f" (served as {entry.target:g}, the next that is calibrated)"
    text = (
        f"aliases.{name}.quality_target: {target:g}{served_as}: the small model answers where score < "
        f"{entry.threshold:g}; at {entry.confidence:.0%} confidence, from {entry.examples} judged prompts "
        f"({table.calibrated_on}; {table.small_model} beside {table.baseline_model}), of which "
        f"{entry.expected_strong_share:.0%} went to the latter"
    )
    return f"{text}\n  WARNING: {entry.warning}" if entry.warning else text


def _wanted_quality(config: Config) -> dict[str, float]:
    return {name: alias.quality_target for name, alias in config.aliases.items() if alias.quality_target is not None}


def _prices(config: Config, prices: PriceBook) -> Iterator[str]:
    """A deployment without a price cannot be configured, nor a baseline; and their tokenizers must be there."""
    named = {"baseline": config.baseline}
    named |= {_key(config, deployment, "price"): deployment.price for deployment in config.deployments}
    for key, name in named.items():
        try:
            tokenizer = prices.model(name).tokenizer
            if tokenizer is not None:
                verify_encoding(tokenizer)
        except UnknownModel as error:
            yield f"{key}: {error}"


def _aliases(config: Config, lineup: Lineup) -> Iterator[str]:
    active, gaps = {deployment.name for deployment in lineup.active}, dict(lineup.disabled)
    for name, alias in config.aliases.items():
        wanted = alias.deployments or tuple(active)
        if active.isdisjoint(wanted):
            reasons = "; ".join(f"{one}: {gaps.get(one, 'simulated, beside real ones')}" for one in wanted)
            yield f"aliases.{name}: none of its deployments can be used: {reasons}"


def _baseline(config: Config, lineup: Lineup) -> Iterator[str]:
    """Whoever measures against the baseline's answers, or passes them on, needs a deployment that gives them."""
    active = {deployment.name for deployment in lineup.active}
    for key in config.needing_baseline:
        try:
            baseline_of(config, active, key)
        except ConfigError as error:
            gaps = [f"{name}: {gap}" for name, gap in lineup.disabled if name in config.baseline_deployments]
            yield f"{error} ({'; '.join(gaps)})"


def _addresses_and_keys(config: Config, lineup: Lineup, environ: Mapping[str, str]) -> Iterator[str]:
    for deployment in lineup.active:
        url = deployment.resolved_base_url(environ)
        if url is not None and not _is_address(url):
            variable = deployment.base_url_env
            from_environ = variable is not None and environ.get(variable) == url
            key = _key(config, deployment, "base_url_env" if from_environ else "base_url")
            where = f"the variable {variable} holds" if from_environ else "found"
            yield f"{key}: {where} {url!r}; allowed: http(s)://host[:port][/path], such as http://localhost:8000/v1"
        variable = deployment.api_key_env
        if variable and not _fits_a_header(environ.get(variable, "")):
            # Not what was found, for it is a secret.
            key = _key(config, deployment, "api_key_env")
            yield f"{key}: the variable {variable} holds a blank, a line break or a character that is not ASCII"


def _is_address(url: str) -> bool:
    if not _fits_a_header(url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number or too large, or half an IPv6 address
        return False


def _fits_a_header(text: str) -> bool:
    """Printable ASCII without blanks, of which keys and addresses consist (RFC 6750, 2.1; RFC 3986, 2)."""
    return all("!" <= character <= "~" for character in text)


def _key(config: Config, deployment: DeploymentConfig, field: str) -> str:
    return f"deployments.{config.deployments.index(deployment)}.{field}"

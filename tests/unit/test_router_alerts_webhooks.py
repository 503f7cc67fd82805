"""A webhook shows its host and nothing else, and is configured in full or not at all."""

from __future__ import annotations

import pytest

from router.alerts.webhooks import Outcome, Webhook, webhooks_of
from router.config import AlertsConfig, WebhookConfig
from router.errors import ConfigError

URL = "https://user:hunter22@hooks.example.com/services/T0000000/XXXXsecretXXXX?token=deadbeef"


def alerts(**settings: object) -> AlertsConfig:
    return AlertsConfig(webhooks=(WebhookConfig(url_env="URL", **settings),))  # type: ignore[arg-type]


def test_a_webhook_takes_what_the_environment_holds() -> None:
    environ = {"URL": URL, "SECRET": "s3cret"}
    assert webhooks_of(alerts(), environ) == (Webhook(URL),)
    settings = alerts(secret_env="SECRET", format="slack", timeout_seconds=2)
    assert webhooks_of(settings, environ) == (Webhook(URL, b"s3cret", "slack", 2),)


@pytest.mark.parametrize(
    ("environ", "gap"),
    [
        ({"SECRET": "s3cret"}, "URL is not set"),
        ({"SECRET": "s3cret", "URL": ""}, "URL is not set"),
        (
            {"SECRET": "s3cret", "URL": "hooks.example.com/x"},
            "URL must hold a URL that begins with https:// or http://",
        ),
        ({"URL": URL}, "SECRET is not set"),
        ({"URL": URL, "SECRET": ""}, "SECRET is not set"),
    ],
)
def test_a_webhook_without_its_variables_ends_the_start(environ: dict[str, str], gap: str) -> None:
    with pytest.raises(ConfigError) as raised:
        webhooks_of(alerts(secret_env="SECRET"), environ)
    assert str(raised.value) == f"alerts.webhooks.0: {gap}; set it, or take the webhook out"


def test_only_the_host_is_shown() -> None:
    webhook = Webhook(URL, b"s3cret")
    assert webhook.host == "hooks.example.com"
    shown = repr(webhook) + webhook.without_secrets(
        f"cannot POST {URL}: no /services/T0000000/XXXXsecretXXXX, nor T0000000, nor token deadbeef of user:hunter22"
    )
    assert "cannot POST" in shown
    for secret in ("s3cret", "T0000000", "XXXXsecretXXXX", "deadbeef", "hunter22"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("status", "delivered", "worth_repeating"),
    [(200, True, False), (204, True, False), (301, False, False), (400, False, False), (404, False, False),
     (410, False, False), (429, False, True), (500, False, True), (503, False, True), (None, False, True)],
)  # fmt: skip
def test_what_is_tried_again(status: int | None, delivered: bool, worth_repeating: bool) -> None:
    outcome = Outcome(status)
    assert (outcome.delivered, outcome.worth_repeating and not outcome.delivered) == (delivered, worth_repeating)

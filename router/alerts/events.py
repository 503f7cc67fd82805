"""What is posted: the event, its forms, and the signature that proves whose it is. Nothing here does I/O."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import orjson

from policies.alerts import Alert, alert_text
from policies.budget import Budget
from policies.money import format_usd
from router.stores.entries import budget_as_json

SHARE_REACHED = "budget.share_reached"
TEST = "test"
SIGNATURE_HEADER = "x-parsimony-signature"

Event = Mapping[str, Any]


def alert_id(budget_id: str, window: str, share: Fraction, end_user: str) -> str:
    """The same for all who find this share reached: a repeat, even one after a lost database, can be told by it."""
    told = orjson.dumps([budget_id, window, str(share), end_user])
    return f"alert_{hashlib.sha256(told).hexdigest()[:32]}"


def event_of(alert: Alert) -> dict[str, Any]:
    """As JSON values. Amounts are decimal strings in the budget's unit, since a float cannot hold every one."""
    state, budget = alert.state, alert.state.budget
    return {
        "id": alert.id,
        "event": SHARE_REACHED,
        "created_at": _timestamp(alert.at),
        "text": alert_text(alert),
        "budget": budget_as_json(budget),
        "end_user": state.end_user or None,
        "window": alert.window,
        "share": float(alert.share),
        "also_passed": [float(share) for share in alert.also_passed],
        "spent": _amount(budget, state.spent),
        "limit": _amount(budget, budget.limit),
        "runs_out_at": None if alert.runs_out_at is None else _timestamp(alert.runs_out_at),
    }


def trial_event(unique: str, now: datetime) -> dict[str, Any]:
    """For trying a webhook: no budget has anything to do with it."""
    text = "This is a test of Parsimony's alerts: nothing is wrong."
    return {"id": f"test_{unique}", "event": TEST, "created_at": _timestamp(now), "text": text}


def json_body(event: Event) -> bytes:
    return orjson.dumps(event)


def slack_body(event: Event) -> bytes:
    """Slack's incoming webhooks, and the many that take the same.

    `&`, `<` and `>` are written as Slack asks: a user who is called <!channel> would call everyone.
    """
    text = str(event["text"]).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return orjson.dumps({"text": text})


def signature(secret: bytes, body: bytes, now_s: int) -> str:
    """`t=<Unix seconds>,v1=<hex>`: the HMAC-SHA256 of "<t>.<body>".

    The time is signed too, so that a receiver can refuse what somebody recorded and sends again.
    """
    digest = hmac.new(secret, b"%d." % now_s + body, hashlib.sha256).hexdigest()
    return f"t={now_s},v1={digest}"


def _amount(budget: Budget, amount: int) -> str:
    return format_usd(amount) if budget.unit == "usd" else str(amount)


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""What is posted says everything a receiver needs, and a signature that anybody can check."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from fractions import Fraction

from policies.alerts import Alert
from policies.budget import Budget, BudgetState
from policies.money import parse_usd
from router.alerts.events import alert_id, event_of, json_body, signature, slack_body, trial_event
from router.stores.entries import budget_as_json

NOW = datetime(2026, 11, 22, 8, 30, 1, 999_999, tzinfo=UTC)
BUDGET = Budget(
    id="user:support/*:month",
    subject_kind="user",
    subject_id="support/*",
    limit=parse_usd(500),
    timezone="Asia/Shanghai",
)


def alert(end_user: str = "amy") -> Alert:
    state = BudgetState(BUDGET, "2026-11", parse_usd("500.000000001"), 7, end_user)
    return Alert("alert_1", state, "2026-11", Fraction(1), (Fraction(4, 5),), NOW)


def test_the_whole_event() -> None:
    assert json.loads(json_body(event_of(alert()))) == {
        "id": "alert_1",
        "event": "budget.share_reached",
        "created_at": "2026-11-22T08:30:01Z",
        "text": "user amy of team support has used 100 % of its 500.00 USD for 2026-11 (500.00 USD), "
        "passing the alert at 80 % as well",
        "budget": budget_as_json(alert().state.budget),
        "end_user": "amy",
        "window": "2026-11",
        "share": 1.0,
        "also_passed": [0.8],
        "spent": "500.000000001",
        "limit": "500.00",
        "runs_out_at": None,
    }


def test_an_id_is_the_same_for_all_who_tell_the_same_and_for_nobody_else() -> None:
    parts = ("team:support:month", "2026-11", Fraction(4, 5), "amy")
    others = [
        ("team:sales:month", *parts[1:]),
        (parts[0], "2026-12", *parts[2:]),
        (*parts[:2], Fraction(1), parts[3]),
        (*parts[:3], "bob"),
        ("team:support:month2026-11", "", *parts[2:]),
    ]
    assert alert_id(*parts) == alert_id(*parts)
    assert len({alert_id(*parts), *(alert_id(*other) for other in others)}) == 1 + len(others)


def test_a_user_cannot_call_everyone_on_slack() -> None:
    body = json.loads(slack_body(event_of(alert("<!channel> & co"))))
    assert body.keys() == {"text"}
    assert body["text"].startswith("user &lt;!channel&gt; &amp; co of team support has used")


def test_the_signature_is_the_hmac_of_time_and_body() -> None:
    body = json_body(trial_event("1", NOW))
    expected = hmac.new(b"secret", b"1795336201." + body, hashlib.sha256).hexdigest()
    assert signature(b"secret", body, 1_795_336_201) == f"t=1795336201,v1={expected}"

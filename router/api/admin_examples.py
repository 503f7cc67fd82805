"""What the admin API answers, for its documentation. The tests hold that the real answers have these keys."""

from __future__ import annotations

from typing import Any

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "What was asked for cannot be; the message says why."},
    401: {"description": "The key is unknown, revoked or expired."},
    404: {"description": "There is no such entry, or it is another team's."},
}


def documented(summary: str, example: Any, *, status: int = 200) -> dict[str, Any]:
    """What a route's decorator takes: its summary, an example of its answer, and the errors it may answer with."""
    answer = {"description": "As asked for.", "content": {"application/json": {"example": example}}}
    return {"summary": summary, "responses": {status: answer, **_ERRORS}}


NEW_BUDGET: dict[str, Any] = {
    "id": "team:support:month",
    "subject_kind": "team",
    "subject_id": "support",
    "unit": "usd",
    "window": "month",
    "timezone": "Asia/Shanghai",
    "model": None,
    "tier": None,
    "limit_usd": "500.00",
    "limit_nusd": 500_000_000_000,
    "action": "downgrade",
    "downgrade_from": "80%",
    "downgrade_to": "simple",
    "alert_at": ["80%", "100%"],
    "paced": True,
    "when_unavailable": None,
    "source": "admin",
}
BUDGET: dict[str, Any] = NEW_BUDGET | {
    "window_label": "2026-11",
    "spent_usd": "312.40",
    "spent_nusd": 312_400_000_000,
    "reserved_usd": "0.12",
    "reserved_nusd": 120_000_000,
    "available_usd": "187.48",
    "available_nusd": 187_480_000_000,
    "share": 0.625,
    "window_ends_at": "2026-11-30T16:00:00.000+00:00",
    "exhausted_at": "2026-11-28T03:12:00.000+00:00",
}
BUDGETS = {"budgets": [BUDGET]}
_REQUESTS_OF_USERS: dict[str, Any] = {key: value for key, value in BUDGET.items() if not key.endswith("usd")}
USERS = {
    "users": [
        _REQUESTS_OF_USERS
        | {
            "id": "user:support/*:day:requests",
            "subject_kind": "user",
            "subject_id": "support/*",
            "unit": "requests",
            "window": "day",
            "limit": 200,
            "action": "reject",
            "downgrade_from": None,
            "paced": False,
            "window_label": "2026-11-22",
            "end_user": "ann",
            "spent": 150,
            "reserved": 1,
            "available": 49,
            "share": 0.755,
            "window_ends_at": "2026-11-22T16:00:00.000+00:00",
            "exhausted_at": None,
        }
    ]
}
_CHANGE: dict[str, Any] = {
    "id": 812,
    "at": "2026-11-03T08:15:00.000+00:00",
    "actor": "key:key_9ed63f609a61a963",
    "action": "budget.change",
    "target": "team:support:month",
    "before": {"limit": 400_000_000_000},
    "after": {"limit": 500_000_000_000},
}
AUDIT = {"entries": [_CHANGE]}
HISTORY = {
    "budget": NEW_BUDGET,
    "windows": [
        {
            "window_label": "2026-11",
            "from": "2026-10-31T16:00:00.000+00:00",
            "to": "2026-11-30T16:00:00.000+00:00",
            "used_usd": "312.40",
            "used_nusd": 312_400_000_000,
        }
    ],
    "audit": [_CHANGE],
}
SPENDERS = {
    "by": "team",
    "from": "2026-11-21T09:00:00.000+00:00",
    "to": "2026-11-22T09:00:00.000+00:00",
    "spenders": [
        {
            "name": "support",
            "spent_usd": "24.00",
            "spent_nusd": 24_000_000_000,
            "nusd_per_hour": 1_000_000_000,
            "before_nusd_per_hour": 400_000_000,
            "usd_per_hour": "1.00",
            "before_usd_per_hour": "0.40",
        }
    ],
}
KEY: dict[str, Any] = {
    "id": "key_9ed63f609a61a963",
    "team_id": "support",
    "project_id": "chat",
    "name": "chat in production",
    "role": "application",
    "trusted": False,
    "tags": ["chat"],
    "prefix": "sk-parsimony-AbCd",
    "state": "active",
    "allowed_models": None,
    "created_at": "2026-11-01T08:00:00.000+00:00",
    "revoked_at": None,
    "expires_at": None,
    "replaced_by": None,
}
KEYS = {"keys": [KEY]}
SECRET = {"key": KEY, "secret": "sk-parsimony-..."}
TEAM: dict[str, Any] = {
    "id": "support",
    "name": "Support",
    "created_at": "2026-11-01T08:00:00.000+00:00",
    "budget": NEW_BUDGET,
}
TEAMS = {"teams": [TEAM]}
_STATE = {key: value for key, value in BUDGET.items() if key not in ("window_ends_at", "exhausted_at")}
TEAM_DETAIL = TEAM | {"budgets": [_STATE], "keys": [KEY]}
PROJECT: dict[str, Any] = {
    "id": "chat",
    "team_id": "support",
    "name": "Chat",
    "created_at": "2026-11-01T08:00:00.000+00:00",
}
PROJECTS = {"projects": [PROJECT]}
MONTHLY_BUDGET = {"budget": NEW_BUDGET}
SAVINGS = {
    "from": "2026-11-01T00:00:00.000+00:00",
    "to": "2026-11-22T09:00:00.000+00:00",
    "team": None,
    "baseline_models": ["gpt-4"],
    "total": {"name": "total", "request_count": 4, "saved_usd": "8.00", "saved_percent": "80.0"},
}
CHARGEBACK = {
    "report": "chargeback",
    "from": "2026-11-01T00:00:00.000+00:00",
    "to": "2026-12-01T00:00:00.000+00:00",
    "timezone": "UTC",
    "currency": "USD",
    "rows": [{"team": "support", "request_count": 4, "charged_usd": "2.50", "charged_nusd": 2_500_000_000}],
    "total": {"team": "total", "request_count": 4, "charged_usd": "2.50", "charged_nusd": 2_500_000_000},
    "basis": ["Hours of machines are closed for mistral-7b until 2026-12-01T00:00+00:00."],
}
UTILIZATION = {
    "report": "utilization",
    "rows": [{"machine": "mistral-7b", "hours": 720, "cost_usd": "2880.00", "list_cost_usd": "1200.00"}],
}
BREAK_EVEN = {
    "report": "break-even",
    "rows": [{"machine": "mistral-7b", "api": "gpt-4", "cheaper_from": 3024}],
}
REQUEST = {"request_id": "chatcmpl-0123456789abcdef01234567", "team_id": "support", "status": "ok"}

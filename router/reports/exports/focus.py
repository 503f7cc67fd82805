"""Line items as FOCUS 1.2 has them: the FinOps Foundation's columns for cost and usage, for tools that read those.

Version 1.2, since it is the newest that the validators and the tools read; 1.3 gives ProviderName and PublisherName
new names and keeps the old. https://focus.finops.org/focus-specification/v1-2/

Columns that 1.2 asks of those only who publish unit prices, negotiate, commit or reserve are left out: a line holds
input and output tokens, which have no one price. The tags of single requests are not among `Tags`, for a line holds
many requests. Our own columns begin with `x_`, as it asks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from policies.money import format_usd
from router.reports.exports.charges import Charge, charges
from router.reports.exports.parquet import PhysicalType, TypedColumn, parquet_bytes
from router.stores.cells import ROUTER, Books

VERSION = "1.2"
_TOKENS = "Tokens"
_TAGS_OF = "parsimony/"


@dataclass(frozen=True, slots=True)
class Account:
    """Whose costs these are, as the columns of the billing account say, and what teams are called by their id."""

    id: str = "parsimony"
    name: str = "Parsimony"
    team_names: Mapping[str, str] | None = None

    def team_name(self, team_id: str | None) -> str | None:
        return None if team_id is None else (self.team_names or {}).get(team_id, team_id)


OWN = Account()


@dataclass(frozen=True, slots=True)
class _Service:
    name: str
    category: str
    subcategory: str


_INFERENCE = _Service("Model inference", "AI and Machine Learning", "Generative AI")
_MACHINES = _Service("Machines", "Compute", "Virtual Machines")
"""Bare metal, too: 1.2 says that the subcategory holds it."""


@dataclass(frozen=True, slots=True)
class FocusColumn:
    name: str
    type: PhysicalType
    nullable: bool
    value: Callable[[Charge, Account], Any]


def focus_rows(books: Books, from_ms: int, to_ms: int, account: Account = OWN) -> Iterable[tuple[Any, ...]]:
    """A value for each of `COLUMNS`; amounts are nano-USD, times Unix milliseconds, None is null."""
    for charge in charges(books, from_ms, to_ms):
        yield tuple(column.value(charge, account) for column in COLUMNS)


def focus_csv(rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Null is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.name for column in COLUMNS])
    for row in rows:
        writer.writerow([_written(column, value) for column, value in zip(COLUMNS, row, strict=True)])
    return text.getvalue().encode()


def focus_parquet(rows: Iterable[tuple[Any, ...]]) -> bytes:
    by_column = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    columns = [
        TypedColumn(column.name, column.type, values, column.nullable)
        for column, values in zip(COLUMNS, by_column, strict=True)
    ]
    return parquet_bytes(columns, {"focus.version": VERSION})


def _written(column: FocusColumn, value: Any) -> str:
    if value is None:
        return ""
    if column.type == "amount":
        return format_usd(value)
    if column.type == "instant":
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if column.type == "boolean":
        return str(value).lower()
    return str(value)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _cost(charge: Charge, _: Account) -> int:
    return charge.cost_nusd


def _quantity(charge: Charge, _: Account) -> int | None:
    """In billionths, as every decimal here."""
    return charge.token_count * 1_000_000_000 if charge.category == "usage" else None


def _unit(charge: Charge, _: Account) -> str | None:
    return _TOKENS if charge.category == "usage" else None


def _service(charge: Charge) -> _Service:
    return _MACHINES if charge.machine else _INFERENCE


def _provider(charge: Charge, _: Account) -> str:
    return charge.provider_name


def _resource_id(charge: Charge, _: Account) -> str | None:
    """Unique, and no repeat of the name: many machines are of one kind."""
    if charge.machine:
        return f"machines/{charge.deployment or ROUTER}/{charge.machine}"
    return f"deployments/{charge.deployment}" if charge.deployment else None


def _resource_name(charge: Charge, _: Account) -> str | None:
    return charge.machine or charge.deployment


def _resource_type(charge: Charge, _: Account) -> str | None:
    if charge.machine:
        return "Machine"
    return "Model deployment" if charge.deployment else None


def _tags(charge: Charge, _: Account) -> str | None:
    tags = {
        "project": charge.project_id,
        "kind": charge.kind,
        "deployment": charge.deployment,
        "simulated": charge.simulated or None,
    }
    given = {f"{_TAGS_OF}{name}": value for name, value in tags.items() if value is not None}
    return orjson.dumps(given).decode() if given else None


COLUMNS: tuple[FocusColumn, ...] = (
    # What 1.2 asks of everyone.
    FocusColumn("BilledCost", "amount", False, _cost),
    FocusColumn("BillingAccountId", "text", False, lambda _, account: account.id),
    FocusColumn("BillingAccountName", "text", True, lambda _, account: account.name),
    FocusColumn("BillingCurrency", "text", False, lambda _, __: "USD"),
    FocusColumn("BillingPeriodEnd", "instant", False, lambda charge, _: _ms(charge.billing_month[1])),
    FocusColumn("BillingPeriodStart", "instant", False, lambda charge, _: _ms(charge.billing_month[0])),
    FocusColumn("ChargeCategory", "text", False, lambda charge, _: charge.category.title()),
    FocusColumn("ChargeClass", "text", True, lambda _, __: None),
    FocusColumn("ChargeDescription", "text", True, lambda charge, _: charge.description),
    FocusColumn("ChargePeriodEnd", "instant", False, lambda charge, _: charge.end_ms),
    FocusColumn("ChargePeriodStart", "instant", False, lambda charge, _: charge.start_ms),
    FocusColumn("ContractedCost", "amount", False, _cost),
    FocusColumn("EffectiveCost", "amount", False, _cost),
    FocusColumn("InvoiceIssuerName", "text", False, _provider),
    FocusColumn("ListCost", "amount", False, _cost),
    FocusColumn("PricingQuantity", "amount", True, _quantity),
    FocusColumn("PricingUnit", "text", True, _unit),
    FocusColumn("ProviderName", "text", False, _provider),
    FocusColumn("PublisherName", "text", False, _provider),
    FocusColumn("ServiceCategory", "text", False, lambda charge, _: _service(charge).category),
    FocusColumn("ServiceName", "text", False, lambda charge, _: _service(charge).name),
    # What it recommends.
    FocusColumn("ChargeFrequency", "text", False, lambda charge, _: "Recurring" if charge.machine else "Usage-Based"),
    FocusColumn("ServiceSubcategory", "text", False, lambda charge, _: _service(charge).subcategory),
    # What it asks of those who measure use, have sub-accounts, resources, SKUs and tags.
    FocusColumn("ConsumedQuantity", "amount", True, _quantity),
    FocusColumn("ConsumedUnit", "text", True, _unit),
    FocusColumn("PricingCategory", "text", True, lambda charge, _: "Standard" if charge.category == "usage" else None),
    FocusColumn("ResourceId", "text", True, _resource_id),
    FocusColumn("ResourceName", "text", True, _resource_name),
    FocusColumn("ResourceType", "text", True, _resource_type),
    FocusColumn("SkuId", "text", True, lambda charge, _: charge.sku),
    FocusColumn("SubAccountId", "text", True, lambda charge, _: charge.team_id),
    FocusColumn("SubAccountName", "text", True, lambda charge, account: account.team_name(charge.team_id)),
    FocusColumn("SubAccountType", "text", True, lambda charge, _: None if charge.team_id is None else "Team"),
    FocusColumn("Tags", "text", True, _tags),
    # Ours.
    FocusColumn("x_BookedCounterfactualCost", "amount", False, lambda charge, _: charge.counterfactual_nusd),
    FocusColumn("x_BookedSavings", "amount", False, lambda charge, _: charge.counterfactual_nusd - charge.cost_nusd),
    FocusColumn("x_BaselineModel", "text", True, lambda charge, _: charge.baseline_model),
    FocusColumn("x_Kind", "text", True, lambda charge, _: charge.kind),
    FocusColumn("x_RequestCount", "integer", False, lambda charge, _: charge.request_count),
    FocusColumn("x_InputTokens", "integer", False, lambda charge, _: charge.input_tokens),
    FocusColumn("x_OutputTokens", "integer", False, lambda charge, _: charge.output_tokens),
    FocusColumn("x_CachedInputTokens", "integer", False, lambda charge, _: charge.cached_input_tokens),
    FocusColumn("x_ReasoningTokens", "integer", False, lambda charge, _: charge.reasoning_tokens),
    FocusColumn("x_MachineHours", "integer", True, lambda charge, _: charge.machine_hours),
    FocusColumn("x_Simulated", "boolean", False, lambda charge, _: charge.simulated),
)

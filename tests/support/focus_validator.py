"""What FOCUS 1.2 asks of a dataset of cost and usage, restated for the columns that Parsimony writes.

By the specification's pages of the columns (MUST of presence, type, nullability, allowed values), not by our code.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

MANDATORY = """
    BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory
    ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart ContractedCost EffectiveCost InvoiceIssuerName
    ListCost PricingQuantity PricingUnit ProviderName PublisherName ServiceCategory ServiceName
""".split()
RECOMMENDED = "ChargeFrequency ServiceSubcategory".split()
"""Those of them that can be filled in here."""
OF_WHO_MEASURES_USE_AND_HAS_ACCOUNTS_RESOURCES_AND_TAGS = """
    ConsumedQuantity ConsumedUnit ResourceId ResourceName ResourceType SubAccountId SubAccountName Tags
""".split()
NOT_NULL = """
    BilledCost BillingAccountId BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory ChargePeriodEnd
    ChargePeriodStart ContractedCost EffectiveCost InvoiceIssuerName ListCost ProviderName PublisherName ServiceCategory
    ServiceName ServiceSubcategory ChargeFrequency
""".split()
DECIMALS = "BilledCost ContractedCost EffectiveCost ListCost PricingQuantity ConsumedQuantity".split()
INSTANTS = "BillingPeriodEnd BillingPeriodStart ChargePeriodEnd ChargePeriodStart".split()
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "BillingCurrency": {"USD"},
    "ServiceCategory": {
        "AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases", "Developer Tools",
        "Multicloud", "Identity", "Integration", "Internet of Things", "Management and Governance", "Media",
        "Migration", "Mobile", "Networking", "Security", "Storage", "Web", "Other",
    },
}  # fmt: skip
SUBCATEGORIES = {
    "AI and Machine Learning": {"AI Platforms", "Bots", "Generative AI", "Machine Learning",
                                "Natural Language Processing", "Other (AI and Machine Learning)"},
    "Compute": {"Containers", "End User Computing", "Quantum Compute", "Serverless Compute", "Virtual Machines",
                "Other (Compute)"},
}  # fmt: skip
"""Of the categories that are used here."""
ONE_OF = {
    "ServiceName": ("ServiceCategory", "ServiceSubcategory"),
    "ResourceId": ("ResourceName", "ResourceType"),
    "SubAccountId": ("SubAccountName", "SubAccountType"),
}
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE]-?\d+)?")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_NAME = re.compile(r"[A-Z][A-Za-z0-9]*|x_[A-Z][A-Za-z0-9]*")

Row = Mapping[str, str]


def findings(content: bytes) -> list[str]:
    """What is wrong with the CSV file, a line each; nothing where it conforms."""
    reader = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
    names = list(reader.fieldnames or ())
    asked = MANDATORY + RECOMMENDED + OF_WHO_MEASURES_USE_AND_HAS_ACCOUNTS_RESOURCES_AND_TAGS
    wrong = [f"{name} is missing" for name in asked if name not in names]
    own = [name.startswith("x_") for name in names]
    wrong += ["columns of our own stand among those of FOCUS"] if own != sorted(own) else []
    wrong += [f"{name} is no name of a column" for name in names if not _NAME.fullmatch(name)]
    wrong += [f"{name} stands twice" for name in set(names) if names.count(name) > 1]
    if wrong:
        return wrong
    rows = list(enumerate(reader, 1))
    wrong = [f"row {number}: {line}" for number, row in rows for line in _of_row(row)]
    return wrong or [*_ambiguous([row for _, row in rows])]


def _ambiguous(rows: Sequence[Row]) -> Iterator[str]:
    """A service has one category, and an id of a resource is that of one resource."""
    for name, others in ONE_OF.items():
        found: dict[str, set[tuple[str, ...]]] = {}
        for row in rows:
            found.setdefault(row[name], set()).add(tuple(row[other] for other in others))
        yield from (f"{name} {value!r} is several: {sorted(many)}" for value, many in found.items() if len(many) > 1)


def _of_row(row: Row) -> Iterator[str]:
    if None in row or None in row.values():
        yield "has another number of fields than the head"
        return
    yield from (f"{name} is null" for name in NOT_NULL if not row[name])
    yield from (f"{name} is {row[name]!r}" for name in DECIMALS if row[name] and not _is_decimal(row[name]))
    yield from (f"{name} is {row[name]!r}" for name in INSTANTS if not _INSTANT.fullmatch(row[name]))
    yield from (f"{name} is {row[name]!r}" for name, allowed in ALLOWED.items() if row[name] not in allowed)
    yield from (f"{name} is the word {row[name]}" for name in row if row[name].lower() in ("null", "none", "nan"))
    yield from (sentence for sentence, holds in _RULES.items() if not holds(row))


def _is_decimal(text: str) -> bool:
    try:
        return bool(_NUMBER.fullmatch(text)) and Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _instant(row: Row, name: str) -> datetime:
    moment = datetime.fromisoformat(row[name])
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_object_of_scalars(text: str) -> bool:
    value = json.loads(text)
    return isinstance(value, dict) and all(isinstance(each, str | int | float | bool | None) for each in value.values())


def _bought(row: Row) -> bool:
    return row["ChargeCategory"] in ("Usage", "Purchase") and row["ChargeClass"] != "Correction"


_RULES: dict[str, Callable[[Row], bool]] = {
    "the charge period ends before it begins": lambda row: (
        _instant(row, "ChargePeriodStart") < _instant(row, "ChargePeriodEnd")
    ),
    "the charge period leaves the billing period": lambda row: (
        _instant(row, "BillingPeriodStart") <= _instant(row, "ChargePeriodStart")
        and _instant(row, "ChargePeriodEnd") <= _instant(row, "BillingPeriodEnd")
    ),
    "PricingQuantity of a usage or purchase is null": lambda row: not _bought(row) or bool(row["PricingQuantity"]),
    "PricingQuantity and PricingUnit do not go together": lambda row: (
        bool(row["PricingQuantity"]) == bool(row["PricingUnit"])
    ),
    "ConsumedQuantity and ConsumedUnit do not go together": lambda row: (
        bool(row["ConsumedQuantity"]) == bool(row["ConsumedUnit"])
    ),
    "ConsumedQuantity of usage is null": lambda row: (
        not (_bought(row) and row["ChargeCategory"] == "Usage") or bool(row["ConsumedQuantity"])
    ),
    "ConsumedQuantity of what is no usage": lambda row: row["ChargeCategory"] == "Usage" or not row["ConsumedQuantity"],
    "PricingCategory of a usage or purchase is null": lambda row: not _bought(row) or bool(row["PricingCategory"]),
    "SkuId of a usage or purchase is null": lambda row: not _bought(row) or bool(row["SkuId"]),
    "a purchase is no usage": lambda row: (
        row["ChargeCategory"] != "Purchase" or row["ChargeFrequency"] != "Usage-Based"
    ),
    "ResourceName and ResourceType without ResourceId": lambda row: (
        bool(row["ResourceId"]) == bool(row["ResourceName"]) == bool(row["ResourceType"])
    ),
    "SubAccountName and SubAccountType without SubAccountId": lambda row: (
        bool(row["SubAccountId"]) == bool(row["SubAccountName"]) == bool(row["SubAccountType"])
    ),
    "a name of a resource repeats its id": lambda row: (
        not row["ResourceId"] or row["ResourceId"] != row["ResourceName"]
    ),
    "without unit prices, what was listed or contracted is what was billed": lambda row: (
        row["ListCost"] == row["ContractedCost"] == row["BilledCost"] == row["EffectiveCost"]
    ),
    "what somebody else is paid for is billed": lambda row: (
        row["ProviderName"] == row["InvoiceIssuerName"] or Decimal(row["BilledCost"]) == 0
    ),
    "ServiceSubcategory is of another category": lambda row: (
        row["ServiceSubcategory"] in SUBCATEGORIES.get(row["ServiceCategory"], ())
    ),
    "Tags are no JSON object": lambda row: not row["Tags"] or _is_object_of_scalars(row["Tags"]),
}

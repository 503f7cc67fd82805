"""`parsimony explain`: why a request went where it went, and how its cost came about."""

from __future__ import annotations

from typing import Annotated

import typer

from router.cli.admin import administration, print_facts, print_json
from router.cli.options import FAILED, ConfigOption, JsonOption, fail
from router.prices import load_prices
from router.reports.explanation import explained, explanation_as_json, facts


def explain(
    request_id: Annotated[
        str, typer.Argument(metavar="REQUEST_ID", help="A response's id, or its x-parsimony-request-id.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a request went where it went, what it cost, and what the baseline would have cost."""
    with administration(config) as services:
        record = services.ledger.get(request_id)
        if record is None:
            fail(
                f"there is no record of {request_id!r}; records reach the ledger about a second after the answer",
                FAILED,
            )
        replaced = services.repricings.of_request(request_id)
        explanation = explained(record, services.config, load_prices(services.config.prices), replaced)
    if as_json:
        print_json(explanation_as_json(explanation))
    else:
        print_facts(facts(explanation))

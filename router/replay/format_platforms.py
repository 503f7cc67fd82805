"""Exports of Langfuse, and what Azure's diagnostic settings write.

Sources: Langfuse's API reference, `Observation` and `ObservationsView` (`usage` and `calculatedTotalCost` are the
older names of `usageDetails` and `costDetails`), and its docs, "Blob storage export field reference" and "Token &
cost tracking": cached input is counted beside `input`, not within. Microsoft Learn, "Monitor Azure OpenAI" (category
RequestResponse: `properties` is JSON inside of JSON and holds lengths in bytes, no tokens), its table
"ApiManagementGatewayLlmLog" and "Log token usage, prompts, and completions for LLM APIs" (tokens, and messages if
they are logged; large ones become several entries with sequence numbers).
"""

from __future__ import annotations

from typing import Any

from policies.usage import TokenUsage
from router.replay.chat import answer_text, chat_body, request_body
from router.replay.fields import (
    Fields,
    cost_of,
    first,
    instant_ms,
    is_failure,
    mapping,
    parsed,
    text_of,
    tokens,
    usage_of,
)
from router.replay.rows import BadRow, LoggedRequest, NoCall

_ONLY_LENGTHS = (
    "found lengths in bytes, as Azure OpenAI itself writes them, and no tokens; API Management's log of language "
    "models (GatewayLlmLogs) holds tokens, and messages where they are logged"
)


def is_langfuse(record: Fields) -> bool:
    if "usageDetails" in record or "usage_details" in record:
        return True
    return ("traceId" in record or "trace_id" in record) and ("type" in record or "input" in record)


def read_langfuse(record: Fields) -> LoggedRequest:
    """Raises BadRow, and NoCall for spans, events and generations that failed."""
    kind = text_of(first(record, "type"))
    if (kind and kind.upper() != "GENERATION") or text_of(record.get("level")).upper() == "ERROR":
        raise NoCall
    model = text_of(first(record, "model", "providedModelName", "provided_model_name"))
    if not model:
        raise BadRow("no model", "model: found none; it must name the model that answered")
    parameters = first(record, "modelParameters", "model_parameters")
    costs = mapping(first(record, "costDetails", "cost_details"))
    total = first(record, "calculatedTotalCost", "calculated_total_cost", "totalCost", "total_cost")
    return LoggedRequest(
        model=model,
        body=chat_body(model, record.get("input"), parameters),
        answer=answer_text(record.get("output")),
        usage=_langfuse_usage(record),
        at_ms=instant_ms(first(record, "startTime", "start_time")),
        cost_nusd=cost_of(costs.get("total") if costs.get("total") is not None else total),
        application=text_of(first(record, "userId", "user_id")),
        id=text_of(record.get("id")),
    )


def _langfuse_usage(record: Fields) -> TokenUsage | None:
    details = mapping(first(record, "usageDetails", "usage_details"))
    if _side(details, "input") is not None:
        cached = _sum(details, ("input_cached_tokens", "input_cache_read", "cache_read_input_tokens"))
        return usage_of(
            _side(details, "input"), _side(details, "output"), cached, details.get("output_reasoning_tokens")
        )
    usage = mapping(record.get("usage"))
    inputs, outputs = ("input", "promptTokens", "prompt_tokens"), ("output", "completionTokens", "completion_tokens")
    return usage_of(
        first(usage, *inputs) if usage else first(record, "promptTokens", "inputTokens", "input_tokens", "inputUsage"),
        first(usage, *outputs)
        if usage
        else first(record, "completionTokens", "outputTokens", "output_tokens", "outputUsage"),
    )


def _side(details: Fields, side: str) -> int | None:
    """All tokens of one side, which are counted in parts that do not overlap."""
    parts = (side, f"cache_read_{side}", f"cache_creation_{side}")
    return _sum(details, [name for name in details if name.startswith(parts)])


def _sum(details: Fields, names: Any) -> int | None:
    found = [tokens(details.get(name), name) for name in names]
    counted = [count for count in found if count is not None]
    return sum(counted) if counted else None


def is_azure(record: Fields) -> bool:
    """`properties_s` and capitals are what becomes of the names in a workspace of Log Analytics."""
    if first(record, "properties", "properties_s") is not None:
        return first(record, "category", "Category", "operationName", "OperationName") is not None
    return "ModelName" in record and "PromptTokens" in record


def read_azure(record: Fields) -> LoggedRequest:
    """A record of the resource's diagnostics or of API Management's gateway. Raises BadRow and NoCall.

    What is asked of the model is its name: a deployment's own name says nothing of the price. The gateway splits large
    requests and answers into several records; those after the first call nothing.
    """
    properties = {**record, **mapping(first(record, "properties", "properties_s"))}
    if is_failure(first(properties, "resultSignature", "ResultSignature")):
        raise NoCall
    if text_of(first(record, "category", "Category")) in ("Audit", "Trace", "AzureOpenAIRequestUsage"):
        raise NoCall
    usage = usage_of(
        first(properties, "promptTokens", "PromptTokens", "prompt_tokens"),
        first(properties, "completionTokens", "CompletionTokens", "completion_tokens"),
    )
    is_part = text_of(first(properties, "sequenceNumber", "SequenceNumber")) not in ("", "0")
    if is_part and usage is None:
        raise NoCall
    model = text_of(
        first(properties, "modelName", "ModelName", "modelDeploymentName", "DeploymentName", "deploymentName")
    )
    if not model:
        raise BadRow("no model", "properties.modelName: found none; it must name the model that answered")
    texts = {} if is_part else properties
    request = first(texts, "requestBody", "request", "requestMessages", "RequestMessages")
    if usage is None and request is None and "requestLength" in properties:
        raise BadRow("missing usage", _ONLY_LENGTHS)
    return LoggedRequest(
        model=model,
        body=request_body(request) or chat_body(model, _joined(request)),
        answer=answer_text(first(texts, "responseBody", "response", "responseMessages", "ResponseMessages")),
        usage=usage,
        at_ms=instant_ms(first(properties, "time", "TimeGenerated", "timestamp")),
        application=text_of(first(properties, "objectId", "SubscriptionId", "subscriptionId")),
        id=text_of(first(properties, "correlationId", "CorrelationId")),
    )


def _joined(messages: Any) -> Any:
    """Messages that the gateway splits are part of a record only: without the others they would be misjudged."""
    value = parsed(messages) if isinstance(messages, str) else messages
    if isinstance(value, list) and any(isinstance(each, dict) and each.get("sequenceNumber") for each in value):
        return None
    return value

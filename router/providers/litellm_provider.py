"""The adapter for what does not speak OpenAI's wire (Anthropic, Gemini, Bedrock, ...), by way of litellm.

The only importer of litellm, and a late one: the import takes seconds and 150 MB, so it happens on first
use, in a thread, and only where a deployment asks for it. Of litellm only the translation is used; its
retries, callbacks, logs, look-ups over the network and reading of .env files are off.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Any

import orjson

from router.errors import UpstreamError, UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from router.providers.openai_wire import error_of_status

ENVIRONMENT = {
    "LITELLM_MODE": "PRODUCTION",  # its default reads a .env file from the working directory
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
}
SETTINGS: dict[str, Any] = {
    "callbacks": [],
    "success_callback": [],
    "failure_callback": [],
    "cache": None,
    "num_retries": 0,
    "suppress_debug_info": True,
    "turn_off_message_logging": True,
    "disable_hf_tokenizer_download": True,
    "user_url_validation": True,  # some of its providers fetch a caller's image URL themselves
    # Not its own dropping of parameters: that one asks a second time on 422 and then returns nothing.
    "drop_params": False,
}

# litellm takes the caller's fields and its own options (api_base, mock_response, fallbacks ...) in one
# list of keywords. Only these names pass from a request; all else could turn our credential elsewhere.
ESSENTIAL = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "model",
        "n",
        "response_format",
        "stop",
        "stream_options",
        "tool_choice",
        "tools",
        "web_search_options",
    }
)
HINTS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    }
)
"""Left out where the model knows no such thing: routing chose the model, so the caller cannot be blamed."""

BY_STATUS = 0
STATUS_OF_EXCEPTION = {
    "APIConnectionError": 502,
    "APIError": BY_STATUS,
    "APIResponseValidationError": 502,
    "AuthenticationError": 401,
    "BadGatewayError": 502,
    "BadRequestError": BY_STATUS,
    "BlockedPiiEntityError": 400,
    "BudgetExceededError": 502,
    "ContentPolicyViolationError": 400,
    "ContextWindowExceededError": 400,
    "GuardrailRaisedException": 400,
    "ImageFetchError": 400,
    "InternalServerError": 500,
    "InvalidRequestError": 400,
    "JSONSchemaValidationError": 502,
    "LiteLLMUnknownProvider": 502,  # the configuration is at fault, not the request
    "MidStreamFallbackError": 502,
    "MockException": 502,
    "ModelNotMappedError": 502,
    "ModifyResponseException": 502,
    "NotFoundError": 404,
    "OpenAIError": 502,
    "PaymentRequiredError": 402,
    "PermissionDeniedError": 403,
    "RateLimitError": 429,
    "RejectedRequestError": 400,
    "RouterRateLimitError": 429,
    "RouterRateLimitErrorBasic": 429,
    "SensitiveDataRouteException": 502,
    "ServiceUnavailableError": 503,
    "Timeout": 408,
    "ToolLoopMaxRoundsExceeded": 502,
    "UnprocessableEntityError": 422,
    "UnsupportedParamsError": 400,
    "VectorStoreSearchError": 502,
}
"""Every exception class of litellm and the HTTP status it stands for; a test holds this complete."""

_LEFT_OPEN = frozenset({"APIConnectionError", "APIResponseValidationError", "Timeout"})
_UNCONNECTED = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""httpx's, for a request that did not go out."""

MISTAKES = (AttributeError, LookupError, TypeError, ValueError)
"""What litellm's translation stumbles over where the caller's request is not as it should be."""
MAX_MISTAKE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class LiteLLMEndpoint:
    """How a deployment is reached. Without `api_key`, litellm reads the provider's own variable."""

    name: str
    api_key: str | None = None
    base_url: str | None = None
    connect_s: float = 3.0
    total_s: float = 600.0


class LiteLLMProvider:
    """One deployment; `model` in the body carries litellm's prefix, `anthropic/claude-...` for example."""

    def __init__(self, endpoint: LiteLLMEndpoint) -> None:
        self._endpoint = endpoint
        self._litellm: Any = None
        self._supported_by_model: dict[str, frozenset[str]] = {}

    async def open(self, body: dict[str, Any], *, stream: bool) -> WholeAnswer | StreamedAnswer:
        """As Provider.open; the first call waits for the import."""
        name = self._endpoint.name
        check_tools(name, body.get("tools"))
        litellm = await self.prepare()
        arguments = arguments_of(body, self._supported(litellm, body["model"]))
        progress = Progress()
        options = self._options(litellm) | {"logger_fn": progress.note}
        try:
            answer = await litellm.acompletion(**arguments, **options, stream=stream)
        except Exception as error:  # border: litellm lets its providers' exceptions of any class through
            failure = translated(name, error, sent=progress.sent)
            failure.may_be_billed = progress.sent and left_open(error)
            raise failure from error
        return StreamedAnswer(name, answer) if stream else WholeAnswer(whole_body(answer))

    async def prepare(self) -> Any:
        """Imports litellm now, so that no request waits for it. Returns the module."""
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(load_litellm)
        return self._litellm

    async def close(self) -> None:
        """Closes litellm's connections. It keeps them for the whole process: to be called at the end only."""
        if self._litellm is not None:
            await self._litellm.close_litellm_async_clients()

    def _supported(self, litellm: Any, model: str) -> frozenset[str]:
        """The OpenAI parameters that litellm can translate for the model; it takes milliseconds to tell."""
        if model not in self._supported_by_model:
            found = litellm.get_supported_openai_params(model=model)
            if found is None:  # the configuration is at fault, not the request
                error = UpstreamUnavailable(f"{self._endpoint.name}: litellm knows no provider of the model {model!r}")
                error.retryable = False
                raise error
            self._supported_by_model[model] = frozenset(found)
        return self._supported_by_model[model]

    def _options(self, litellm: Any) -> dict[str, Any]:
        endpoint = self._endpoint
        return {
            "api_key": endpoint.api_key,
            "api_base": endpoint.base_url,
            "timeout": litellm.httpx.Timeout(endpoint.total_s, connect=endpoint.connect_s),
            "max_retries": 0,
            "num_retries": 0,
            "no-log": True,
            "_skip_mcp_handler": True,  # any tool, of whatever type, would need the package `mcp` else
        }


class Progress:
    """How far litellm came with one request. It tells by `logger_fn`, the one hook of a call and not of the process."""

    def __init__(self) -> None:
        self.sent = False
        """At least about to be: the request was translated."""

    def note(self, details: dict[str, Any]) -> None:
        self.sent = self.sent or details.get("log_event_type") == "pre_api_call"


class WholeAnswer:
    """A complete answer: litellm hands none over before it has it all."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._left: bytes | None = body

    async def read(self) -> bytes:
        return self._body

    async def next_chunk(self) -> bytes | None:
        left, self._left = self._left, None
        return left

    async def close(self) -> None:
        self._left = None


class StreamedAnswer:
    """litellm's chunks as server-sent events, one event a piece, `[DONE]` last."""

    def __init__(self, name: str, chunks: Any) -> None:
        self._name = name
        self._chunks = chunks
        self._ended = False

    async def read(self) -> bytes:
        pieces: list[bytes] = []
        while (piece := await self.next_chunk()) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    async def next_chunk(self) -> bytes | None:
        if self._ended:
            return None
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
            return b"data: [DONE]\n\n"
        except Exception as error:  # border: as in LiteLLMProvider.open
            self._ended = True
            raise translated(self._name, error) from error
        return b"data: %b\n\n" % chunk_body(chunk)

    async def close(self) -> None:
        self._ended = True
        await self._chunks.aclose()


def load_litellm() -> Any:
    """Imports litellm and turns off all of it but the translation. Safe to call again, and from any thread."""
    os.environ.update(ENVIRONMENT)
    import litellm

    for key, value in SETTINGS.items():
        setattr(litellm, key, value)
    # Its warnings quote requests, and what goes wrong reaches us as an exception anyway.
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


def arguments_of(body: dict[str, Any], supported: frozenset[str]) -> dict[str, Any]:
    """The caller's fields that go to litellm: the essential ones, and those hints that the model knows."""
    allowed = ESSENTIAL | (HINTS & supported)
    return {key: value for key, value in body.items() if key in allowed}


def whole_body(answer: Any) -> bytes:
    """A complete answer in OpenAI's wire format, with the nulls that clients expect."""
    body = _without_private(answer.model_dump(exclude_none=True))
    for choice in body["choices"]:
        choice["message"].setdefault("content", None)
    return orjson.dumps(body)


def chunk_body(chunk: Any) -> bytes:
    """One chunk in OpenAI's wire format; the chunk with the usage holds no choice there."""
    body = _without_private(chunk.model_dump(exclude_none=True))
    for choice in body["choices"]:
        choice.setdefault("finish_reason", None)
    if "usage" in body:
        body["choices"] = [choice for choice in body["choices"] if choice["delta"] or choice["finish_reason"]]
    return orjson.dumps(body)


def _without_private(body: dict[str, Any]) -> dict[str, Any]:
    """Drops litellm's own `provider_specific_fields`, for which no client of OpenAI's wire has a use."""
    for choice in body["choices"]:
        choice.pop("provider_specific_fields", None)
        for part in ("message", "delta"):
            choice.get(part, {}).pop("provider_specific_fields", None)
    return body


def check_tools(name: str, tools: Any) -> None:
    """Raises UpstreamRejected for a tool that is no function, of which litellm would make something of its own."""
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind != "function":
            raise _rejected(f"{name} takes tools of type 'function' only, not {kind!r}", f"tools[{index}].type")
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _rejected("a tool of type 'function' needs a function with a name", f"tools[{index}].function")


def translated(name: str, error: Exception, *, sent: bool = True) -> UpstreamError:
    """Any exception that came out of litellm as one of ours; `name` is the deployment's.

    Where nothing was `sent`, what litellm stumbled over is the request.
    """
    if not sent and (mistake := _mistake(error)) is not None:
        return _rejected(f"the request cannot be translated for {name}: {mistake}", None)
    original = getattr(error, "original_exception", None)
    if isinstance(original, Exception):  # a stream that broke off wraps its cause
        return translated(name, original)
    status = _status(error)
    if status == 408:
        return UpstreamTimeout(f"{name} did not answer in time")
    headers = getattr(error, "litellm_response_headers", None) or {}
    return error_of_status(name, status, _error_body(error), headers.get("retry-after"))


def left_open(error: Exception) -> bool:
    """Whether no refusal came of a request that was sent: its provider may have answered, and bill it."""
    unconnected = any(type(cause).__name__ in _UNCONNECTED for cause in _causes(error))
    return type(error).__name__ in _LEFT_OPEN and not unconnected


def _mistake(error: Exception) -> str | None:
    """What was wrong with a request that was not sent; None where it is not the request's fault.

    litellm wraps what it cannot name into an APIConnectionError of status 500, traceback and all.
    """
    wrapped = type(error).__name__ == "APIConnectionError"
    chain = _causes(error)[1:] if wrapped else _causes(error)
    if not chain or any(isinstance(cause, OSError | ImportError) for cause in chain):
        return None
    first = chain[0]
    if type(first).__name__ in STATUS_OF_EXCEPTION or not (isinstance(first, MISTAKES) or type(first) is Exception):
        return None
    line = str(first).partition("\n")[0][:MAX_MISTAKE_CHARACTERS]
    return f"{line} is missing" if isinstance(first, KeyError) else line or type(first).__name__


def _causes(error: BaseException) -> list[BaseException]:
    """The exception, what it was raised for, and so on."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


def _rejected(message: str, param: str | None) -> UpstreamRejected:
    """A fault that no provider saw, in the words that one would have used."""
    details = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return UpstreamRejected(message, status=400, body=orjson.dumps({"error": details}))


def _status(error: Exception) -> int:
    """The HTTP status of the nearest class that the table knows; 502 for a stranger."""
    for ancestor in type(error).__mro__:
        if ancestor.__name__ in STATUS_OF_EXCEPTION:
            status = STATUS_OF_EXCEPTION[ancestor.__name__]
            return status if status != BY_STATUS else int(getattr(error, "status_code", 502))
    return 502


def _error_body(error: Exception) -> bytes:
    """The provider's words as an error body: from its JSON where there is some, else litellm's sentence."""
    found = getattr(error, "body", None)
    text = str(getattr(error, "message", error)).partition("Exception - ")[2] or str(error)
    if not isinstance(found, dict):
        found = _error_object(text)
    code = "context_length_exceeded" if type(error).__name__ == "ContextWindowExceededError" else None
    details = {
        "message": str(found.get("message") or text),
        "type": str(found.get("type") or "invalid_request_error"),
        "param": found.get("param"),
        "code": code or found.get("code"),
    }
    return orjson.dumps({"error": details})


def _error_object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {}

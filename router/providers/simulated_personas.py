"""Which simulated model a name means: how wordy and how quick it is, and which fault it is asked to show.

A model's name may end in fault switches, each with a plus sign before it: `gpt-4+error500`, `phi-2+slow+cut`.
`FAULTS` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FAULTS: Mapping[str, str] = {
    "error500": "answers 500 server_error",
    "rate429": "answers 429 rate_limit_exceeded with Retry-After: 1",
    "hang": "never answers; gives up when the client does",
    "cut": "closes the connection halfway through the answer",
    "slow": "waits two seconds for the first token and takes ten times as long for each chunk",
}
SLOW_FIRST_TOKEN_MS = 2_000.0
SLOW_CHUNK_FACTOR = 10.0


@dataclass(frozen=True, slots=True)
class Persona:
    """How a family of models behaves: `wordiness` scales the length of its answers."""

    family: str
    owner: str
    wordiness: float
    first_token_ms: float
    chunk_ms: float


DEFAULT_PERSONA = Persona("default", "simulated", 1.0, 20.0, 1.0)

PERSONAS: tuple[Persona, ...] = (
    Persona("mistral-7b", "mistralai", 0.80, 10.0, 0.5),
    Persona("open-mistral-7b", "mistralai", 0.80, 10.0, 0.5),
    Persona("open-mistral-nemo", "mistralai", 0.90, 12.0, 0.6),
    Persona("mixtral", "mistralai", 0.90, 16.0, 0.8),
    Persona("open-mixtral", "mistralai", 0.90, 16.0, 0.8),
    Persona("mistral-medium", "mistralai", 1.05, 24.0, 1.0),
    Persona("mistral", "mistralai", 0.90, 16.0, 0.8),
    Persona("phi", "microsoft", 1.15, 10.0, 0.5),
    Persona("llama-2-7b", "meta", 1.20, 10.0, 0.5),
    Persona("llama", "meta", 1.15, 18.0, 0.8),
    Persona("gpt-3.5", "openai", 0.85, 16.0, 0.8),
    Persona("gpt-4", "openai", 1.00, 36.0, 1.4),
    Persona("gpt-4-turbo", "openai", 1.15, 32.0, 1.2),
    Persona("gpt-4o", "openai", 1.20, 24.0, 1.0),
    Persona("gpt-4o-mini", "openai", 1.10, 16.0, 0.8),
    Persona("gemini-1.5-flash", "google", 0.95, 14.0, 0.6),
    Persona("ernie", "baidu", 1.00, 24.0, 1.0),
    Persona("doubao", "bytedance", 1.00, 20.0, 0.8),
    Persona("flan", "google", 0.40, 10.0, 0.5),
)
BY_LONGEST_FAMILY = tuple(sorted(PERSONAS, key=lambda persona: -len(persona.family)))


def persona_of(model: str) -> Persona:
    """The persona whose family the model's name begins with, the longest first; unknown names get the default.

    A path before the name is ignored, as in "mistralai/Mistral-7B-Instruct-v0.3".
    """
    bare = split_faults(model)[0].rsplit("/", 1)[-1].lower()
    return next((persona for persona in BY_LONGEST_FAMILY if bare.startswith(persona.family)), DEFAULT_PERSONA)


def split_faults(model: str) -> tuple[str, frozenset[str]]:
    """ "gpt-4+slow+cut" -> ("gpt-4", {"slow", "cut"}). Unknown switches come back too, for the caller to refuse."""
    name, *switches = model.split("+")
    return name, frozenset(switches)

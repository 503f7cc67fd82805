"""What is held to be true of small models before any data: a weight for each trait within its kind of request.

Set by hand, from what is commonly reported of models with 7 to 50 billion parameters beside the largest ones. Each
line says why. The training moves these weights where its sources agree, and leaves them where they are silent: fitted
without them, the same numbers reverse their sign from one source to the next (see the manifest's `metrics`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classifiers.traits import KINDS, TRAITS

PRIOR: dict[str, dict[str, float]] = {
    "choice": {
        "length": 0.8,  # a longer question holds more to keep in mind
        "people": 0.5,  # judging a situation with people in it asks for inference, not recall
        "negation": 0.4,  # small models stumble over "not" and "except"
        "conditions": 0.3,
        "statements": 0.5,  # several statements to judge at once
        "option_length": 0.3,  # options that argue, rather than name
        "option_numbers": -0.6,  # an answer to be computed at once defeats the large model too
        "notation_share": -0.5,  # so does dense notation without room to work
        "recall": -0.2,  # who and when: either model has read it, or neither
        "chinese": 0.4,  # less of it was in the small model's training
    },
    "code": {"level": 1.2},  # one wrong token spoils a program
    "notation": {
        "level": 0.4,  # worked mathematics
        "length": -0.3,  # of which the longest defeats both
        "option_numbers": -0.3,
    },
    "word_problem": {
        "level": 0.8,  # a chain of steps breaks at its weakest
        "length": 1.0,  # and the longer, the more links it has
    },
    "open": {
        "length": -0.4,  # what is long here is mostly material, given to be worked on
        "explanation": 0.1,
        "routine": -0.3,  # translating, extracting, naming
        "writing": -0.2,  # fluency is what small models have
        "reasoning": 0.3,
        "recall": -0.2,
        "conditions": 0.2,
        "constraints": 0.1,
        "chinese": 0.3,
    },
}


def prior_weights() -> NDArray[np.float64]:
    """The table as one weight a product of kind and trait, shape (kinds x traits,), kinds outermost."""
    return np.array([PRIOR[kind].get(trait, 0.0) for kind in KINDS for trait in TRAITS])

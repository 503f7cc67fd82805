"""Corpora in, the arrays of a learned model out.

Three fits. The encoder is latent semantic analysis of all texts. The universal weights are the mode of a Gaussian
posterior around `prior.PRIOR`, every source counting alike. The local part recognises tasks by a softmax regression
and corrects their mean gains by a ridge regression. How far each is believed is set where neither was trained: the
universal one on sources left out, the local one on stems left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression, Ridge

from classifiers.encoding import Encoder
from classifiers.features import Text
from classifiers.learned import FAR, INPUTS_BEFORE_POINT, encoder_of
from classifiers.training.corpus import Corpus
from classifiers.training.prior import prior_weights
from classifiers.traits import KINDS, TRAITS

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]

DIMENSIONS = 128
LEAST_DOCUMENTS = 4
"""A word is learned from so many prompts on."""
FOLDS = 5
# How firmly the prior is held, in units of a trait's own variance, and its size in standard deviations of gain. Both
# chosen by leaving one source out (LOSO .555, of .472 to .555 in the range .003 to 1 by 0 to .6).
PRIOR_PRECISION, PRIOR_SCALE = 0.3, 0.6
_POINT_SCALE = 3.0
_SHRINK_TASK = 20.0
_SOFTMAX_C = 1.0
_SOFTMAX_ITERATIONS = 400
_LOCAL_RIDGE = 1000.0
# A task is recognised by its words where half of its own prompts lie so near to its centre (cosine): those of a
# template do, those that share a topic do not, and of a topic's next prompt nothing is known.
TIGHT_FROM = 0.745
# A request counts as one of a task where it has more known words and lies nearer than all but a twentieth of the task's
# own prompts, within bounds: of any source, 95 of 100 prompts lie below .54 from the tasks of the others.
OWN_QUANTILE, LEAST_NEARNESS, MOST_NEARNESS = 0.05, 0.56, 0.9
GATE_WIDTH = 0.02
_FIRST_HAN, _LAST_HAN = 0x3400, 0x9FFF


def fit(corpora: Sequence[Corpus], seed: int) -> Arrays:
    """The arrays of a `LearnedModel` trained on all corpora, before they are `settled`."""
    encoder = fit_encoder([text for corpus in corpora for text in corpus.texts], _text_weights(corpora), seed)
    points = {corpus.name: encode(encoder_of(encoder), corpus.texts) for corpus in corpora}
    universal = fit_universal(corpora)
    tasks = fit_tasks(corpora, points, known_words(encoder, corpora), seed)
    centres = {corpus.name: float(corpus.products.mean(axis=0) @ universal) for corpus in corpora}
    return {**encoder, **_assembled(universal, tasks, centres), "mixture": np.array([GATE_WIDTH, 1.0, 0.0])}


def fit_encoder(texts: Sequence[Text], weights: Floats, seed: int) -> Arrays:
    """Latent semantic analysis; `weights` (texts,) say how much each text counts."""
    words, pairs = _vocabulary(texts)
    rows = Encoder(words, pairs, np.zeros((len(words) + len(pairs), 1), np.int8), np.ones(1, np.float32)).rows
    known = [sorted(rows(text)) for text in texts]
    starts = np.cumsum([0, *map(len, known)])
    columns = np.fromiter((row for one in known for row in one), np.int64, starts[-1])
    shape = len(texts), len(words) + len(pairs)
    counts = np.bincount(columns, minlength=shape[1])
    rarity = np.log((1 + len(texts)) / (1 + counts)) + 1.0
    table = sparse.csr_matrix((rarity[columns], columns, starts), shape)
    lengths = np.sqrt(table.multiply(table).sum(axis=1)).A1
    scaled = sparse.diags(weights / np.maximum(lengths, 1e-9)) @ table
    factors = TruncatedSVD(DIMENSIONS, n_iter=7, random_state=seed).fit(scaled).components_
    vectors = factors.T * rarity[:, None]
    scale = np.abs(vectors).max(axis=0) / 127.0
    return {
        "words": np.frombuffer(b"\n".join(words), np.uint8),
        "pairs": np.array(pairs, np.uint32),
        "vectors": np.round(vectors / scale).astype(np.int8),
        "vector_scale": scale.astype(np.float32),
    }


def encode(encoder: Encoder, texts: Sequence[Text]) -> Floats:
    """The points of texts, shape (texts, dimensions)."""
    return np.array([encoder.encode(text) for text in texts], np.float64)


def fit_universal(corpora: Sequence[Corpus]) -> Floats:
    """Weights of traits within kinds, shape (kinds x traits,): the posterior's mode, each source counting alike.

    Minimises the mean over sources of |y - Xw|^2 / n, plus PRIOR_PRECISION |w - PRIOR_SCALE prior|^2, where the columns
    of X are centred within the source and y is the gain in its standard deviations.
    """
    centre: Floats = PRIOR_SCALE * prior_weights()
    square, moment = np.zeros((len(centre), len(centre))), np.zeros(len(centre))
    for corpus in corpora:
        rows = corpus.products - corpus.products.mean(axis=0)
        square += rows.T @ rows / len(corpus) / len(corpora)
        moment += rows.T @ standardised(corpus) / len(corpus) / len(corpora)
    ridge = PRIOR_PRECISION * np.eye(len(centre))
    shift: Floats = np.linalg.solve(square + ridge, moment - square @ centre).astype(np.float64)
    return centre + shift


def standardised(corpus: Corpus) -> Floats:
    """The gains in standard deviations of their source."""
    spread = corpus.gain.std()
    return corpus.gain / spread if spread > 0.0 else corpus.gain


def known_words(encoder: Arrays, corpora: Sequence[Corpus]) -> NDArray[np.int64]:
    """How many words and pairs of each prompt the encoder knows, corpus after corpus."""
    rows = encoder_of(encoder).rows
    return np.array([len(rows(text)) for corpus in corpora for text in corpus.texts], np.int64)


def fit_tasks(
    corpora: Sequence[Corpus], points: dict[str, Floats], words: NDArray[np.int64], seed: int
) -> dict[str, Any]:
    """The tasks' softmax, centroids and mean gains, and the correction within them; `words` as `known_words` has it."""
    inputs = np.vstack([local_inputs(corpus, points[corpus.name]) for corpus in corpora])
    labels = np.array([label for corpus in corpora for label in corpus.labels])
    gains = np.concatenate([standardised(corpus) for corpus in corpora])
    weights = _text_weights(corpora)
    softmax = LogisticRegression(C=_SOFTMAX_C, max_iter=_SOFTMAX_ITERATIONS, random_state=seed)
    softmax.fit(_task_inputs(inputs), labels)
    names = list(softmax.classes_)
    means = np.array([gains[labels == name].sum() / ((labels == name).sum() + _SHRINK_TASK) for name in names])
    left = gains - softmax.predict_proba(_task_inputs(inputs)) @ means
    local = Ridge(_LOCAL_RIDGE).fit(inputs, left, weights / weights.mean())
    where = np.vstack([points[corpus.name] for corpus in corpora])
    centroids = np.array([where[labels == name].mean(axis=0) for name in names])
    centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-9)
    nearness = [where[labels == name] @ centroids[at] for at, name in enumerate(names)]
    centroids[[np.median(own) < TIGHT_FROM for own in nearness]] = 0.0
    gates = np.array([np.clip(np.quantile(own, OWN_QUANTILE), LEAST_NEARNESS, MOST_NEARNESS) for own in nearness])
    least_words = np.array([np.quantile(words[labels == name], OWN_QUANTILE) for name in names])
    return {
        "names": names,
        "softmax": softmax,
        "means": means,
        "local": local,
        "centroids": centroids,
        "gates": gates,
        "least_words": np.floor(least_words).astype(np.int32),
    }


def local_inputs(corpus: Corpus, points: Floats) -> Floats:
    """Kinds, traits, products and points, in the order in which `LearnedModel` takes them."""
    return np.hstack([corpus.kinds, corpus.traits, corpus.products, points])


def _task_inputs(inputs: Floats) -> Floats:
    """For the softmax: products are left out, points stretched to weigh as much as the traits."""
    before = len(KINDS) + len(TRAITS)
    return np.hstack([inputs[:, :before], _POINT_SCALE * inputs[:, INPUTS_BEFORE_POINT:]])


def _assembled(universal: Floats, tasks: dict[str, Any], centres: dict[str, float]) -> Arrays:
    """All linear parts as one matrix: task logits, nearness, local correction, universal estimate.

    `task_centres` are the universal estimate's means over the source that a task is of: gains of tasks are known
    within their source only, and this is where the source lies among others.
    """
    before, count = len(KINDS) + len(TRAITS), len(tasks["names"])
    weights = np.zeros((2 * count + 2, INPUTS_BEFORE_POINT + DIMENSIONS))
    bias = np.zeros(len(weights))
    weights[:count, :before] = tasks["softmax"].coef_[:, :before]
    weights[:count, INPUTS_BEFORE_POINT:] = _POINT_SCALE * tasks["softmax"].coef_[:, before:]
    bias[:count] = tasks["softmax"].intercept_
    weights[count : 2 * count, INPUTS_BEFORE_POINT:] = tasks["centroids"]
    bias[count : 2 * count] = -tasks["gates"]
    weights[-2], bias[-2] = tasks["local"].coef_, tasks["local"].intercept_
    weights[-1, before:INPUTS_BEFORE_POINT] = universal
    return {
        "weights": weights.astype(np.float32),
        "bias": bias.astype(np.float32),
        "task_gains": tasks["means"].astype(np.float32),
        "task_centres": np.array([centres[name.partition(":")[0]] for name in tasks["names"]], np.float32),
        "task_least_words": tasks["least_words"],
        "task_names": np.array(tasks["names"]),
    }


def settled(arrays: Arrays, local_scale: float) -> Arrays:
    """The arrays as they ship: the local estimate scaled, and each task's gains put where its source lies."""
    weights, bias = arrays["weights"].copy(), arrays["bias"].copy()
    weights[-2] *= local_scale
    bias[-2] *= local_scale
    gains = (local_scale * arrays["task_gains"] + arrays["task_centres"]).astype(np.float32)
    rest = {name: values for name, values in arrays.items() if name != "task_centres"}
    return {**rest, "weights": weights, "bias": bias, "task_gains": gains}


def parts(arrays: Arrays, corpus: Corpus, points: Floats) -> tuple[Floats, Floats, Floats]:
    """The universal estimate, the local one and the nearness to a known task, of every prompt: as `judge` has them."""
    outputs = local_inputs(corpus, points) @ arrays["weights"].T.astype(np.float64) + arrays["bias"]
    count = len(arrays["task_gains"])
    shares = np.exp(outputs[:, :count] - outputs[:, :count].max(axis=1, keepdims=True))
    local = shares @ arrays["task_gains"] / shares.sum(axis=1) + outputs[:, -2]
    enough = arrays["task_least_words"] <= known_words(arrays, [corpus])[:, None]
    recognised = arrays["weights"][count : 2 * count, INPUTS_BEFORE_POINT:].any(axis=1)
    nearness = np.where(enough & recognised, outputs[:, count : 2 * count], FAR)
    return outputs[:, -1], local, nearness.max(axis=1)


def mixed(arrays: Arrays, corpus: Corpus, points: Floats) -> Floats:
    """The estimated gain of every prompt, in standard deviations, by settled arrays."""
    universal, local, near = parts(arrays, corpus, points)
    known = 1.0 / (1.0 + np.exp(-near / arrays["mixture"][0]))
    mixture: Floats = known * local + (1.0 - known) * universal
    return mixture


def fold_of(corpus: Corpus) -> NDArray[np.int64]:
    """The fold of each prompt, by its stem."""
    return np.array([crc32(stem.encode()) % FOLDS for stem in corpus.stems])


def _text_weights(corpora: Sequence[Corpus]) -> Floats:
    """A source counts with the square root of its size, shared by its prompts."""
    return np.concatenate([np.full(len(corpus), len(corpus) ** -0.5) for corpus in corpora])


def _vocabulary(texts: Sequence[Text]) -> tuple[list[bytes], list[int]]:
    words: dict[bytes, int] = {}
    pairs: dict[int, int] = {}
    for text in texts:
        for word in set(text.words):
            words[word] = words.get(word, 0) + 1
        for pair in filter(_has_chinese, set(text.pairs)):
            pairs[pair] = pairs.get(pair, 0) + 1
    return (
        sorted(word for word, count in words.items() if count >= LEAST_DOCUMENTS),
        sorted(pair for pair, count in pairs.items() if count >= LEAST_DOCUMENTS),
    )


def _has_chinese(pair: int) -> bool:
    """Of its two UTF-16 units. Those of two Latin letters would make any text in both languages look like another."""
    return any(_FIRST_HAN <= unit <= _LAST_HAN for unit in (pair & 0xFFFF, pair >> 16))

"""A text as a point: the sum of its words' learned vectors, English words and pairs of Chinese characters alike.

The vectors are the right factors of a truncated singular value decomposition of the training texts' tf-idf matrix
(latent semantic analysis: Deerwester et al. 1990), the weight of a word folded into its vector. So texts about the
same things lie close to each other, and a text of unknown words lies at the origin. There is nothing to hash, so no
two words collide.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from classifiers.features import Text

# Fewer known words than these point nowhere.
_FEWEST_ROWS = 6
_SHORTEST = 1e-6
# A number, not None: where None lies in a set differs between processes, and with it the order of the sum.
_UNKNOWN = -1
# As many as the longest text that is read can hold.
_MOST_ROWS = 8192


class Encoder:
    """Vectors by word and by pair: of each word in their order, then of each pair, a row of `vectors` times `scale`.

    `vectors`, shape (words + pairs, width), stay the bytes that they are, for every process holds them; `scale`,
    shape (width,), float32, makes numbers of the few that a text needs.
    """

    def __init__(
        self, words: Sequence[bytes], pairs: Sequence[int], vectors: NDArray[np.int8], scale: NDArray[np.float32]
    ) -> None:
        if len(words) + len(pairs) != len(vectors):
            raise ValueError(f"{len(words)} words and {len(pairs)} pairs need as many vectors, not {len(vectors)}")
        if scale.shape != vectors.shape[1:]:
            raise ValueError(f"vectors of shape {vectors.shape} need as many scales as columns, not {scale.shape}")
        self.width = int(vectors.shape[1])
        self._vectors, self._scale = vectors, scale
        self._ones = np.ones(_MOST_ROWS, np.float32)
        self._row_of_word = {word: row for row, word in enumerate(words)}
        self._row_of_pair = {pair: row for row, pair in enumerate(pairs, len(words))}

    def rows(self, text: Text) -> set[int]:
        """The rows of the known words and pairs of a text, each once."""
        rows = set(map(self._row_of_word.get, text.words, repeat(_UNKNOWN)))
        if text.pairs:
            rows.update(map(self._row_of_pair.get, text.pairs, repeat(_UNKNOWN)))
        rows.discard(_UNKNOWN)
        return rows

    def encode(self, text: Text) -> NDArray[np.float32]:
        """The unit vector of a text, shape (width,); zeros where too few words are known."""
        return self.point(self.rows(text))

    def point(self, rows: set[int]) -> NDArray[np.float32]:
        """The same for rows that are at hand."""
        if len(rows) < _FEWEST_ROWS:
            return np.zeros(self.width, np.float32)
        known = self._vectors.take(np.fromiter(rows, np.intp, len(rows)), 0) * self._scale
        total = self._ones[: min(len(rows), _MOST_ROWS)] @ known[:_MOST_ROWS]
        length = float(total.dot(total)) ** 0.5
        return total * np.float32(1.0 / length if length > _SHORTEST else 0.0)

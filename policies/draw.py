"""Which requests are in the sample that is measured on the baseline."""

from __future__ import annotations

import hashlib


def is_drawn(request_id: str, share: float) -> bool:
    """Whether a request is in the sample: with probability `share`, and alike wherever and whenever that is asked.

    Each is drawn by itself, so that every stratum, whatever it is made of, is sampled at the same share.
    """
    drawn = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8, person=b"shadow").digest())
    return drawn < int(share * 2**64)

"""Random seeds by purpose, so that no two uses of chance in a run share numbers."""

import hashlib


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for a named purpose, e.g. derive(0, "league", "g01-dcgan"); the same words, the same seed."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

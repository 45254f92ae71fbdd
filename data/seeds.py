"""Seeds that depend only on what is sampled, not on timing or the number of machines."""

import hashlib

from data.records import Copy


def stable_hash(*parts: int | str) -> int:
    """Return a 63-bit hash of `parts`, the same in every process and on every machine.

    Integers differ from strings (1 is not "1"), and ("ab", "c") differs from ("a", "bc").
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        kind = b"i" if isinstance(part, int) else b"s"
        # Names of files may hold bytes that are not UTF-8.
        text = str(part).encode(errors="surrogateescape")
        digest.update(kind + len(text).to_bytes(4, "big") + text)
    return int.from_bytes(digest.digest(), "big") >> 1


def completion_seed(
    run_seed: int, epoch: int, cohort: int, video_id: str, copy: Copy, attempt: int, sample: int
) -> int:
    """Return the sampling seed of one completion. It has 63 bits, so collisions within a run are unlikely."""
    return stable_hash("completion", run_seed, epoch, cohort, video_id, copy, attempt, sample)

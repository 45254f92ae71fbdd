"""Choose videos to evaluate while training: few, and spread as the whole split is. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from data.records import Video
from data.seeds import stable_hash


def spread_subset(videos: Sequence[Video], count: int, seed: int) -> list[Video]:
    """Choose `count` of the videos that count for the headline figures, in the order of `videos`.

    Each label set gets its share of `count`. A set's videos are sorted by MOS and cut into as many parts of
    equal size as it has places; each part gives one video, of the source that was chosen least so far. Ties
    are broken by a hash of `seed` and the video's id, so that the choice does not depend on the order.

    Returns all videos, those that do not count included, if `count` is 0 or no less than their number.
    """
    if not 0 < count < len(videos):
        return list(videos)
    counting = [v for v in videos if v.headline]
    by_set: dict[str, list[Video]] = {}
    for video in counting:
        by_set.setdefault(video.label_set, []).append(video)
    places = shares({name: len(members) for name, members in by_set.items()}, min(count, len(counting)))
    chosen = {
        video.video_id
        for name, members in by_set.items()
        for video in _one_a_part(members, places[name], seed)
    }
    return [video for video in videos if video.video_id in chosen]


def shares(sizes: dict[str, int], count: int) -> dict[str, int]:
    """`count` places in proportion to `sizes`, by largest remainders; no size is exceeded by its places.

    `count` must not exceed the sum of the sizes.
    """
    total = sum(sizes.values())
    exact = {name: count * size / total for name, size in sizes.items()}
    places = {name: math.floor(share) for name, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda name: (places[name] - exact[name], name))
    for name in by_remainder[: count - sum(places.values())]:
        places[name] += 1
    return places


def _one_a_part(videos: Sequence[Video], parts: int, seed: int) -> list[Video]:
    def tie(video: Video) -> int:
        return stable_hash(seed, "evaluated while training", video.video_id)

    ordered = sorted(videos, key=lambda video: (video.mos, tie(video)))
    borders = [round(part * len(ordered) / parts) for part in range(parts + 1)] if parts else [0]
    taken: Counter[str] = Counter()
    chosen = []
    for first, end in pairwise(borders):
        video = min(ordered[first:end], key=lambda v: (taken[v.source or v.video_id], tie(v)))
        taken[video.source or video.video_id] += 1
        chosen.append(video)
    return chosen

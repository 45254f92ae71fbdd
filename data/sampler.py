"""Selects the videos of each cohort: a pure function of seed, epoch and index."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data.perturb import draw_perturbation
from data.records import Cohort, CohortMember, Video, VideoRef
from data.seeds import stable_hash


class CohortSampler:
    """Splits every epoch's shuffled videos into cohorts of `videos_per_cohort`.

    Scores of different label sets are not comparable, and rewards compare videos of one set only. So a label
    set with enough videos to fill a cohort gets its own cohorts. The last of them may be smaller; a single
    left-over video joins the cohort before it. Smaller label sets are not split. As many as fit share a
    cohort, which avoids tiny updates; the combination changes every epoch. The sampler's only state is the
    index of the next cohort.
    """

    def __init__(
        self, videos: Sequence[Video], videos_per_cohort: int, seed: int, n_frames: int, temporal: bool
    ) -> None:
        """Args: temporal: also draw a perturbed copy of every video."""
        if not videos:
            raise ValueError("no videos to draw cohorts from")
        self._seed = seed
        self._n_frames = n_frames
        self._temporal = temporal
        self._by_set: dict[str, list[Video]] = {}
        # Sort, so that the order of the manifest's rows has no effect.
        for video in sorted(videos, key=lambda v: v.video_id):
            self._by_set.setdefault(video.label_set, []).append(video)
        self._cuts = {
            name: _cuts(len(rows), videos_per_cohort)
            for name, rows in self._by_set.items()
            if len(rows) >= videos_per_cohort
        }
        small = (len(rows) for name, rows in self._by_set.items() if name not in self._cuts)
        self._packs = _packs(small, videos_per_cohort)
        self.cohorts_per_epoch = sum(len(sizes) for sizes in self._cuts.values()) + len(self._packs)
        self._epoch_cache: tuple[int, list[list[Video]]] | None = None

    def cohort(self, index: int) -> Cohort:
        """Return cohort `index`, counted from 0 over the whole run."""
        epoch, position = divmod(index, self.cohorts_per_epoch)
        members = tuple(self._member(video, epoch, index) for video in self._epoch(epoch)[position])
        return Cohort(index, epoch, members)

    def _member(self, video: Video, epoch: int, index: int) -> CohortMember:
        clean = VideoRef(video.video_id, video.path, self._n_frames)
        drawn = (
            draw_perturbation(self._seed, epoch, index, video.video_id, self._n_frames)
            if self._temporal
            else None
        )
        perturbed = None if drawn is None else VideoRef(video.video_id, video.path, self._n_frames, drawn)
        return CohortMember(video, clean, perturbed)

    def _epoch(self, epoch: int) -> list[list[Video]]:
        if self._epoch_cache is None or self._epoch_cache[0] != epoch:
            rng = np.random.default_rng(stable_hash("cohorts", self._seed, epoch))
            cohorts: list[list[Video]] = []
            small: dict[str, list[Video]] = {}
            for name, videos in self._by_set.items():
                order = [videos[i] for i in rng.permutation(len(videos))]
                if name not in self._cuts:
                    small[name] = order
                    continue
                rest = iter(order)
                cohorts += [[next(rest) for _ in range(size)] for size in self._cuts[name]]
            cohorts += _fill(self._packs, small, rng)
            shuffled = [cohorts[i] for i in rng.permutation(len(cohorts))]
            self._epoch_cache = (epoch, shuffled)
        return self._epoch_cache[1]


def _cuts(n_videos: int, size: int) -> list[int]:
    """Return the sizes of the cohorts of `n_videos` videos. A cohort of 1 is avoided if possible."""
    full, rest = divmod(n_videos, size)
    sizes = [size] * full + ([rest] if rest else [])
    if len(sizes) > 1 and sizes[-1] == 1 and size > 1:
        sizes[-2:] = [size + 1]
    return sizes


def _packs(sizes: Iterable[int], capacity: int) -> list[list[int]]:
    """Pack whole sets of these sizes, all below `capacity`, into cohorts of at most `capacity` videos.

    Returns the sizes of the sets in each cohort. Largest sets first, each goes to the fullest cohort with
    room for it (best fit decreasing).
    """
    with_room: dict[int, list[list[int]]] = {room: [] for room in range(capacity + 1)}
    packs: list[list[int]] = []
    for size in sorted(sizes, reverse=True):
        room = next((r for r in range(size, capacity) if with_room[r]), capacity)
        if room == capacity:
            packs.append([])
        pack = packs[-1] if room == capacity else with_room[room].pop()
        pack.append(size)
        with_room[room - size].append(pack)
    return packs


def _fill(
    packs: Sequence[Sequence[int]], sets: Mapping[str, list[Video]], rng: np.random.Generator
) -> list[list[Video]]:
    """Assign label sets to the packs. Sets of equal size are assigned in random order."""
    waiting: dict[int, list[list[Video]]] = {}
    for videos in sets.values():
        waiting.setdefault(len(videos), []).append(videos)
    dealt = {size: iter([alike[i] for i in rng.permutation(len(alike))]) for size, alike in waiting.items()}
    return [[video for size in pack for video in next(dealt[size])] for pack in packs]

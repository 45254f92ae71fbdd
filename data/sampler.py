"""Which videos are compared with one another, and when: a pure function of seed, epoch and index."""

from collections.abc import Sequence

import numpy as np

from data.perturb import draw_perturbation
from data.records import Cohort, CohortMember, Video, VideoRef
from data.seeds import stable_hash


class CohortSampler:
    """Cuts every epoch's shuffled videos into cohorts of `videos_per_cohort`.

    Scores of different label sets are not comparable, so no cohort mixes them; the last cohort of a label set
    is smaller where the numbers do not divide, and takes in a video that would be left without a peer. Its
    whole state is the number of the next cohort.
    """

    def __init__(
        self, videos: Sequence[Video], videos_per_cohort: int, seed: int, n_frames: int, temporal: bool
    ) -> None:
        """`temporal`: draw a perturbed copy of every video, too."""
        if not videos:
            raise ValueError("no videos to draw cohorts from")
        self._seed = seed
        self._n_frames = n_frames
        self._temporal = temporal
        self._by_set: dict[str, list[Video]] = {}
        # Sorted, so that the order of a manifest's rows changes nothing.
        for video in sorted(videos, key=lambda v: v.video_id):
            self._by_set.setdefault(video.label_set, []).append(video)
        self._sizes = {name: _cuts(len(rows), videos_per_cohort) for name, rows in self._by_set.items()}
        self.cohorts_per_epoch = sum(len(sizes) for sizes in self._sizes.values())
        self._epoch_cache: tuple[int, list[list[Video]]] | None = None

    def cohort(self, index: int) -> Cohort:
        """Cohort `index`, counted from 0 over the whole run."""
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
            cohorts = []
            for name, videos in self._by_set.items():
                order = iter(rng.permutation(len(videos)))
                cohorts += [[videos[next(order)] for _ in range(size)] for size in self._sizes[name]]
            shuffled = [cohorts[i] for i in rng.permutation(len(cohorts))]
            self._epoch_cache = (epoch, shuffled)
        return self._epoch_cache[1]


def _cuts(n_videos: int, size: int) -> list[int]:
    """Sizes of the cohorts of `n_videos` videos; none of 1 where it can be helped."""
    full, rest = divmod(n_videos, size)
    sizes = [size] * full + ([rest] if rest else [])
    if len(sizes) > 1 and sizes[-1] == 1 and size > 1:
        sizes[-2:] = [size + 1]
    return sizes

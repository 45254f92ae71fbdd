"""How many rollout workers a learner wants: the control loop simulated for several numbers of them."""

from collections.abc import Sequence

from cluster.config import RunConfig, derive_sizes
from cluster.planning.simulation import Outcome, ServiceTimes, simulate
from cluster.preflight import Job
from data.records import Video
from data.sampler import CohortSampler

UPDATES = 60


def plan_workers(config: RunConfig, times: ServiceTimes, workers: Sequence[int]) -> dict[int, Outcome]:
    """Simulate the first updates of a run under `config` with each number of workers."""
    schedule = config.schedule
    n_videos = UPDATES * schedule.cohorts_per_update * schedule.videos_per_cohort
    videos = [Video(f"v{i}", f"/v{i}.mp4", 1 + i % 5, "train") for i in range(n_videos)]
    sampler = CohortSampler(
        videos, schedule.videos_per_cohort, config.seed, config.data.frames_per_video, config.temporal
    )
    config = config.model_copy(
        update={"schedule": schedule.model_copy(update={"epochs": 1, "updates": None})}
    )
    job = Job(config, videos, {}, sampler, derive_sizes(config, n_videos, sampler.cohorts_per_epoch))
    return {n: simulate(job, times, n, config.seed) for n in workers}

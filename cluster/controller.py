"""The control loop: two asyncio loops around one CohortBuffer.

        sampler       decode tasks, rollout fleet, reward pool                  learner ranks
           |                           |                                            |
      _feed_loop --cohort--> _collect (task per cohort) --scored--> CohortBuffer --> _learn_loop
           ^                                                                        |
           +--------------- admitted as far as max_staleness allows <--- version ---+

_feed_loop   draws cohorts in order and starts decoding a few ahead. It waits until the buffer admits the next
             cohort, which a finished update unblocks. It then starts one task per cohort (`_collect`): sample
             the groups of all its videos in parallel, score them together, add the result to the buffer.
             A video that fails is left out of its cohort.
_learn_loop  takes the cohorts of the next update, in order. It trains, sends the weights to every engine, and
             only then advances the version. In between it starts evaluations (cluster/evaluator.py) and
             checkpoints (cluster/checkpoint_writer.py), which run at the same time as the next updates. An
             evaluation ends before the next weights are sent. While the loop waits for cohorts, the learner
             computes reference log-probs of cohorts that are already scored (cluster/early_reference.py).

Only small objects pass through the controller: references, texts, token ids and scores. Pixels and weights do
not.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.buffer import CohortBuffer, UpdatePlan
from cluster.checkpoint_writer import CheckpointWriter
from cluster.early_reference import EarlyReference
from cluster.evaluator import Evaluator
from cluster.journal import Journal
from cluster.nccl_log import read_nccl_logs
from cluster.preflight import Job
from cluster.run_actors import RunActors
from cluster.training_batch import FiniteUpdates, SampledVideo, ScoredCohort, cohort_texts, training_batch
from data.model_view import view_of_run, write_view
from data.records import Cohort, CohortMember, Copy, SamplingRequest, VideoFailure, VideoRef
from data.seeds import completion_seed
from data.video_file import VideoError
from learner.group import LearnerFailed
from monitoring.model_card import write_model_card
from monitoring.run_dir import RunDirectory
from monitoring.trace import Trace
from rollout.errors import RolloutFailed
from rollout.fleet_watch import FleetWatch
from rollout.member import WorkerStatus
from runtime.actors import fault_report


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The state of a run. `seconds`: time since the start, over all attempts. `metrics`: metrics of the last
    update; empty before the first."""

    run_dir: Path
    stage: str
    seconds: float
    version: int
    total_updates: int
    videos_waiting: int
    worker_restarts: int
    learner_restarts: int
    workers: list[WorkerStatus]
    metrics: Mapping[str, float]


logger = logging.getLogger(__name__)


class Controller:
    """Runs one job from its start, or from its newest checkpoint, to its end or until `stop` is called.

    Their own classes handle faults of rollout workers, reward actors and decoders. When the learner fails,
    its ranks and both loops are restarted from the last checkpoint.
    """

    def __init__(
        self, job: Job, run: RunDirectory, resume: bool, make_actors: Callable[..., RunActors] = RunActors
    ) -> None:
        self._job, self._config, self._run = job, job.config, run
        schedule = job.config.schedule
        self._plan = UpdatePlan(job.sizes.cohorts_per_epoch, schedule.cohorts_per_update, job.sizes.updates)
        self._checkpoint = run.newest_checkpoint() if resume else None
        self.journal = Journal(run, job.config)
        self._actors = make_actors(job, self.journal.fault, self.journal.recovery)
        self._trace = Trace(run.trace if job.config.metrics.trace else None)
        self._watch = FleetWatch(self._actors.fleet, self.journal.fleet)
        self._buffer: CohortBuffer[ScoredCohort] = CohortBuffer(self._plan, schedule.max_staleness)
        self._stopping = asyncio.Event()
        self._decodes: set[asyncio.Task[Any]] = set()
        """Decode tasks that are running, or whose results are not used yet."""
        self._restarts = 0
        self._transport_noted = False
        self._checkpoints = CheckpointWriter(run, job.config)
        self._evaluator = Evaluator(job, run, self.journal, self._actors, self._trace)
        self._finite = FiniteUpdates(job.config.learner.max_skipped_updates)

    def stop(self) -> None:
        """End the run after the update in progress, with a checkpoint."""
        self._stopping.set()

    async def scale(self, rollout_workers: int) -> None:
        """Start or end rollout workers until there are `rollout_workers`, without pausing the run."""
        await self._actors.fleet.resize(rollout_workers)
        self.journal.note(f"{rollout_workers} rollout workers, as requested")

    def status(self) -> RunStatus:
        """Return the state of the run, which `launch.py status` shows."""
        fleet = self._actors.fleet
        return RunStatus(
            run_dir=self._run.path,
            stage=self.journal.current_stage,
            seconds=self.journal.seconds,
            version=self._buffer.version,
            total_updates=self._plan.total_updates,
            videos_waiting=fleet.waiting,
            worker_restarts=fleet.restarts,
            learner_restarts=self._restarts,
            workers=fleet.overview(),
            metrics=self.journal.last_metrics,
        )

    async def run(self) -> dict[str, Any]:
        """Train, and return the summary. All actors of the run have ended when this returns or raises."""
        try:
            self.journal.stage("starting engines, learner ranks and reward actors")
            state = await self._actors.start(self._checkpoint)
            healthy, wanted = len(self._actors.fleet.healthy), self._config.rollout.replicas
            if healthy < wanted:
                self.journal.note(
                    f"{healthy} of {wanted} rollout workers are healthy; the others may join later"
                )
            while True:
                try:
                    await self._resume_from(state)
                    await self._train()
                    if self._finished:
                        await self._finish()
                    return self.journal.summary(self._finished)
                except LearnerFailed as error:
                    state = await self._restart_learner(error)
        finally:
            await self._evaluator.cancel()
            await self._checkpoints.cancel()
            await self._watch.close()
            await self.journal.close()
            await self._actors.close()
            self._trace.flush()

    @property
    def _finished(self) -> bool:
        return self._buffer.version == self._plan.total_updates

    async def _resume_from(self, state: dict[str, Any]) -> None:
        """Start an attempt at the version that the learner holds, with nothing in flight."""
        version = int(state.get("version", 0))
        self.journal.begin(version, self._job.sizes.updates, state)
        self._buffer = CohortBuffer(self._plan, self._config.schedule.max_staleness, version)
        if version or self._restarts:  # a new engine has loaded the base model itself
            await self._actors.sync.push()
        if version == 0:
            await self._evaluator.whole(version)
        else:
            await self._evaluator.begin(version)  # in case an earlier attempt did not finish it

    async def _restart_learner(self, error: LearnerFailed) -> dict[str, Any]:
        """Restart all ranks from the last checkpoint, but not the fleet; returns the state in the checkpoint.

        Raises `error` if `learner.max_restarts` is used up.
        """
        while self._restarts < self._config.learner.max_restarts:
            self._restarts += 1
            await self._evaluator.cancel()
            await self._checkpoints.cancel()
            remedy = "its ranks are restarted from the last checkpoint"
            self.journal.fault("learner", fault_report(error, remedy))
            try:
                return await self._actors.restart_learner(self._run.newest_checkpoint())
            except LearnerFailed as again:
                error = again
        raise error

    async def _train(self) -> None:
        """Run both loops until the learn loop ends. If one fails, the other is cancelled."""
        if self._finished:
            return
        self.journal.stage("training")
        self._watch.look(self._buffer.version)
        learn, feed = asyncio.create_task(self._learn_loop()), asyncio.create_task(self._feed_loop())
        running = {learn, feed}
        try:
            while learn in running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            await _cancel([learn, feed, *self._decodes])
            self._decodes.clear()

    async def _feed_loop(self) -> None:
        first = self._plan.cohorts_of(self._buffer.version).start
        ahead = max(1, self._config.prefetch_videos // self._config.schedule.videos_per_cohort)
        upcoming: deque[tuple[Cohort, list[asyncio.Task[Any]]]] = deque()
        drawn = first
        async with asyncio.TaskGroup() as collecting:
            for index in range(first, self._plan.total_cohorts):
                while drawn < min(index + ahead, self._plan.total_cohorts):
                    cohort = self._job.sampler.cohort(drawn)
                    decodes = [asyncio.create_task(self._decode(m.clean)) for m in cohort.members]
                    self._decodes.update(decodes)
                    upcoming.append((cohort, decodes))
                    drawn += 1
                await self._buffer.admit(index)
                collecting.create_task(self._collect(*upcoming.popleft()))

    async def _decode(self, ref: VideoRef) -> Any:
        with self._trace.span("decoding", ref.video_id):
            return await self._actors.decoder.look(ref)

    async def _learn_loop(self) -> None:
        reference = EarlyReference(self._actors.learner, self._buffer, self._config)
        while self._buffer.version < self._plan.total_updates and not self._stopping.is_set():
            self._checkpoints.raise_failure()
            self._evaluator.raise_failure()
            update = self._buffer.version
            started = time.perf_counter()
            cohorts = await self._next_cohorts(update, reference)
            if cohorts is None:
                break
            waited_s = time.perf_counter() - started
            batch = training_batch(cohorts, update, self._config.learner, reference.take(cohorts))
            # A batch without samples is an update too: every row of an epoch belongs to an update.
            with self._trace.span("learner", f"update {update}"):
                metrics = await self._actors.learner.update(batch.samples)
            batch = self._finite.check(batch, metrics, update)
            evaluating = time.perf_counter()
            await self._evaluator.finish()
            metrics |= {"timing/evaluation_s": time.perf_counter() - evaluating}
            with self._trace.span("weights", f"version {update + 1}"):
                metrics |= await self._actors.sync.push()
            await self._buffer.advance()
            step_s = time.perf_counter() - started
            metrics |= batch.metrics | self._watch.metrics | self._checkpoints.metrics | reference.metrics
            metrics |= {"timing/wait_s": waited_s, "timing/step_s": step_s}
            metrics["rollout/tokens_per_s"] = batch.metrics["rollout/tokens"] / step_s
            self.journal.update(update, batch, metrics)
            self._trace.flush()
            self._watch.look(update)
            await self._note_transport()
            await self._after_update(update + 1)
        if self._stopping.is_set() and not self._finished:
            await self._evaluator.cancel()
            await self._save(self._buffer.version)
        await self._checkpoints.finish()

    async def _note_transport(self) -> None:
        """Record once which transports NCCL chose. After the first update all its connections are open."""
        if self._transport_noted:
            return
        self._transport_noted = True
        if self._run.nccl.is_dir() and (found := await asyncio.to_thread(read_nccl_logs, self._run.nccl)):
            self.journal.transport(found)

    async def _next_cohorts(self, update: int, reference: EarlyReference) -> list[ScoredCohort] | None:
        """Wait for the cohorts of `update`. Returns None if the run must stop before they are ready."""
        take = asyncio.create_task(self._buffer.take(update))
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await reference.compute_until([take, stop])
            return take.result() if take.done() else None
        finally:
            await _cancel([take, stop])

    async def _after_update(self, version: int) -> None:
        await self._evaluator.begin(version)
        every = self._config.checkpoint.every_updates
        if version == self._plan.total_updates or (every and version % every == 0):
            await self._save(version)

    async def _collect(self, cohort: Cohort, decodes: list[asyncio.Task[Any]]) -> None:
        """Sample and score one cohort, and add it to the buffer."""
        outcomes = await asyncio.gather(
            *(self._sample_member(cohort, m, d) for m, d in zip(cohort.members, decodes, strict=True))
        )
        videos = [o for o in outcomes if isinstance(o, SampledVideo)]
        failures = [o for o in outcomes if isinstance(o, VideoFailure)]
        rewards = None
        if videos:
            with self._trace.span("rewards", f"cohort {cohort.index}"):
                rewards = await self._actors.rewards.score(cohort_texts(videos))
        await self._buffer.add(cohort.index, ScoredCohort(cohort, videos, failures, rewards))

    async def _sample_member(
        self, cohort: Cohort, member: CohortMember, decode: asyncio.Task[Any]
    ) -> SampledVideo | VideoFailure:
        """Sample both groups of one video in one request, on one engine at one policy version."""
        video = member.video
        requests = [self._request(cohort, member, "clean"), self._request(cohort, member, "perturbed")]
        wanted = [r for r in requests if r is not None]
        cost_tokens = sum(len(r.seeds) * r.max_tokens for r in wanted)
        marks: dict[str, Any] = {}
        try:
            info, frames = await decode
            marks = info.facts.marks
            groups = await self._actors.fleet.sample(wanted, frames, cost_tokens)
        except VideoError as error:
            return VideoFailure(video.video_id, video.path, "decode", str(error), cohort.epoch, error.kind)
        except RolloutFailed as error:
            failure = VideoFailure(video.video_id, video.path, "rollout", str(error), cohort.epoch)
            return replace(failure, marks=marks)
        finally:
            self._decodes.discard(decode)
        self._trace.add(groups[0].worker_id, video.video_id, max(group.sampled_s for group in groups))
        return SampledVideo(video, groups[0], groups[1] if len(groups) > 1 else None, frames, marks)

    def _request(self, cohort: Cohort, member: CohortMember, copy: Copy) -> SamplingRequest | None:
        ref = member.clean if copy == "clean" else member.perturbed
        if ref is None:
            return None
        rollout = self._config.rollout
        seeds = [
            completion_seed(self._config.seed, cohort.epoch, cohort.index, ref.video_id, copy, 0, sample)
            if rollout.seeded_requests
            else None
            for sample in range(self._config.schedule.completions_per_video)
        ]
        return SamplingRequest(ref, tuple(seeds), rollout.temperature, rollout.max_completion_tokens)

    async def _save(self, version: int) -> None:
        with self._trace.span("learner", f"checkpoint of version {version}"):
            await self._checkpoints.save(
                self._actors.learner, self.journal.state(), lambda: self.journal.best_version
            )

    async def _finish(self) -> None:
        await self._evaluator.whole(self._buffer.version)
        self.journal.stage("exporting the model")
        await self._actors.learner.export_hf(self._run.final)
        write_view(self._run.final, view_of_run(self._config.model_dump()))
        write_model_card(self._run, self._config.model_dump(mode="json"), self._job.video_counts)


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for them. Their errors are ignored, because relevant ones have been raised
    already."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

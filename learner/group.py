"""The controller's interface to the learner: a group of ZeRO-3 ranks that start, update and end together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from data.errors import PermanentError, permanent_cause
from data.frame_tokens import DEFAULT_FRAME_TOKENS, FrameTokens
from data.records import Weights
from learner.batch_planning import RankPlan, lockstep, plan_update
from learner.config import LearnerConfig
from learner.rank import CONCURRENCY, LearnerRank, rank_environment
from learner.records import Layout, LearnerInfo, RankShard, ReferenceLogprobs, TrainSample
from learner.trainer import LearnerSpec
from learner.weight_transfer import WeightLayout
from learner.zero import Rendezvous
from runtime.actors import ACTOR_IS_GONE, RemoteCall, explained, processes_left, remote, value_of
from runtime.calls import DeadlineError, together, within
from runtime.placement import PlacementError, bundle_of, reserve

T = TypeVar("T")

logger = logging.getLogger(__name__)

_GRACE_S = 2.0
"""Seconds to wait after a first failure, because another rank's error may explain it better."""


class LearnerFailed(RuntimeError):
    """A rank died, failed or missed a deadline. All ranks have been ended. A new group may succeed."""


class LearnerGroup:
    """
        learner = LearnerGroup(config, model_path, total_updates, temperature=1.0)
        info = await learner.start(checkpoint=None)
        metrics = await learner.update(samples)
        weights = await learner.weight_buckets()
        await learner.close()

    Concurrent calls run one after another. After `close` or `LearnerFailed` a group cannot be restarted:
    create a new one. Every call raises a rank's PermanentError unchanged; a new group would then fail too.
    """

    def __init__(
        self,
        config: LearnerConfig,
        model_path: str,
        total_updates: int,
        *,
        temperature: float = 1.0,
        trust_remote_code: bool = False,
        frame_tokens: FrameTokens = DEFAULT_FRAME_TOKENS,
        placement_timeout_s: float = 300.0,
        shutdown_timeout_s: float = 60.0,
        send_adapters: bool = False,
        environment: Mapping[str, str] | None = None,
        alone: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    ) -> None:
        """Args:
        send_adapters: True if `weight_buckets` returns adapters instead of the whole model's weights.
        environment: environment variables for the ranks, in addition to those of `rank_environment`.
        alone: context entered while ranks start or update, because they allocate and free GPU memory then.
        """
        self._environment = dict(environment or {})
        self._alone = alone
        self._config = config
        self._spec = LearnerSpec(
            config=config,
            model_path=model_path,
            total_updates=total_updates,
            temperature=temperature,
            device="cuda" if config.gpus_per_rank else "cpu",
            trust_remote_code=trust_remote_code,
            frame_tokens=frame_tokens,
            send_adapters=send_adapters,
        )
        self._placement_timeout_s = placement_timeout_s
        self._shutdown_timeout_s = shutdown_timeout_s
        self._placement: PlacementGroup | None = None
        self._ranks: list[Any] = []
        self._processes: list[tuple[str, int]] = []
        """Node and process id of each started rank that may still hold memory."""
        self._layout: Layout = "packed"
        self._turn = asyncio.Lock()
        self.version = 0
        """Policy version of the ranks: the number of updates, including those before the checkpoint."""

    async def start(self, checkpoint: Path | None = None) -> LearnerInfo:
        """Place and start all ranks and load the model, then `checkpoint` if given.

        Raises:
            LearnerFailed: if Ray does not grant the resources in time, or a rank fails.
        """
        try:
            await self._place()
            start_timeout_s, timeout_s = self._config.start_timeout_s, self._config.collective_timeout_s
            self._processes = await self._call_all(remote(LearnerRank.process), start_timeout_s)
            host, port = await self._call_one(0, remote(LearnerRank.address), start_timeout_s)
            world = len(self._ranks)
            calls = [
                remote(LearnerRank.start, Rendezvous(host, port, rank, world, timeout_s), checkpoint)
                for rank in range(world)
            ]
            async with self._alone(), self._turn:
                infos = await self._call_each(calls, start_timeout_s)
        except BaseException:
            self._kill()
            raise
        self.version = int(infos[0].extra.get("version", 0))
        self._layout = infos[0].layout
        return infos[0]

    async def update(self, samples: Sequence[TrainSample]) -> dict[str, float]:
        """Make one GRPO update on all `samples`, and increase `version` by one; returns the update's metrics.

        Without samples the weights do not change, but `version` still increases.

        Args:
            samples: groups with advantages, which are distributed over the ranks by their token counts.
        """
        if not samples:
            async with self._turn:
                self.version += 1
            return {}
        samples = await self._with_reference(samples)
        plans = self._plan(samples)
        async with self._alone(), self._turn:
            calls = [
                remote(LearnerRank.update, self.version, shard, *frames)
                for shard, frames in self._shards(samples, plans)
            ]
            replies = await self._call_each(calls, self._config.update_timeout_s)
            self.version += 1
        return replies[0] | {"learner/lockstep": lockstep(plans, self._layout == "packed")}

    async def logprobs(self, samples: Sequence[TrainSample]) -> list[list[list[float]]]:
        """Return completion tokens' log-probs under the current policy, by sample and completion."""
        return await self._of_each(samples, lambda s, frames: remote(LearnerRank.logprobs, s, *frames))

    async def reference(self, samples: Sequence[TrainSample]) -> list[ReferenceLogprobs]:
        """Return log-probs under the frozen reference, by sample, for use as the samples' `reference`."""
        return await self._of_each(samples, lambda s, frames: remote(LearnerRank.reference, s, *frames))

    async def _with_reference(self, samples: Sequence[TrainSample]) -> Sequence[TrainSample]:
        """Return samples that all have reference log-probs or all have none, as all ranks must agree."""
        missing = [sample for sample in samples if sample.reference is None]
        if len(missing) in (0, len(samples)):
            return samples
        found = iter(await self.reference(missing))
        return [s if s.reference is not None else replace(s, reference=next(found)) for s in samples]

    async def _of_each(
        self,
        samples: Sequence[TrainSample],
        call: Callable[[RankShard, list[np.ndarray]], RemoteCall[LearnerRank, list[T]]],
    ) -> list[T]:
        """Return the ranks' results for their samples, in the order of `samples`."""
        plans = self._plan(samples)
        calls = [call(shard, frames) for shard, frames in self._shards(samples, plans)]
        async with self._turn:
            replies = await self._call_each(calls, self._config.update_timeout_s)
        parts = zip(plans, replies, strict=True)
        found = {i: reply for plan, part in parts for i, reply in zip(plan.groups, part, strict=False)}
        return [found[i] for i in range(len(samples))]

    async def weight_buckets(self) -> Weights:
        """Put the current policy into the object store, after an update in progress has ended.

        The objects exist as long as rank 0 and the references do.
        """
        async with self._turn:
            replies = await self._call_each(
                [remote(LearnerRank.weight_buckets)] * len(self._ranks), self._config.update_timeout_s
            )
            return Weights(self.version, replies[0])

    async def weight_layout(self) -> WeightLayout:
        """Return the layout of the weights that `send_weights` sends, in the order of sending."""
        layouts = await self._call_all(remote(LearnerRank.weight_layout), self._config.update_timeout_s)
        return layouts[0]

    async def transfer_address(self) -> tuple[str, int]:
        """Return an address at which `join_transfer` can open a group."""
        return await self._call_one(0, remote(LearnerRank.address), self._config.collective_timeout_s)

    async def join_transfer(self, host: str, port: int, world_size: int, timeout_s: float) -> None:
        """Open the NCCL group of rank 0 and the engines; returns once all `world_size` have joined."""
        await self._call_all(remote(LearnerRank.join_transfer, host, port, world_size), timeout_s)

    async def gather_weights(self) -> int:
        """Gather the current policy into rank 0's host memory, after an update in progress has ended. Returns
        its version."""
        async with self._turn:
            calls = [remote(LearnerRank.gather_weights)] * len(self._ranks)
            await self._call_each(calls, self._config.update_timeout_s)
            return self.version

    async def send_weights(self, timeout_s: float) -> float:
        """Broadcast the policy from `gather_weights` over `join_transfer`'s group; returns rank 0's seconds.

        Raises:
            LearnerFailed: if an engine does not receive it in time; a hanging broadcast cannot be cancelled.
        """
        return (await self._call_all(remote(LearnerRank.send_weights), timeout_s))[0]

    async def save(self, folder: Path, extra: dict[str, Any] | None = None) -> None:
        """Write a checkpoint. `start(checkpoint=folder)` returns `extra` (JSON) with the version."""
        state = (extra or {}) | {"version": self.version}
        await self._call_all(remote(LearnerRank.save, folder, state), self._config.update_timeout_s)

    async def snapshot(self) -> int:
        """Copy the state for a checkpoint to the ranks' host memory; returns its version."""
        async with self._turn:
            calls = [remote(LearnerRank.snapshot)] * len(self._ranks)
            await self._call_each(calls, self._config.update_timeout_s)
            return self.version

    async def write_snapshot(self, folder: Path, extra: dict[str, Any]) -> None:
        """Write the last snapshot as a checkpoint, while the ranks may compute.

        The next snapshot must wait until this returns. `extra` must contain the version. A failure does not
        end the ranks.
        """
        timeout_s, ranks = self._config.update_timeout_s, range(len(self._ranks))
        await self._call_one(0, remote(LearnerRank.begin_checkpoint, folder), timeout_s)
        write = remote(LearnerRank.write_snapshot, folder)
        await together(self._call_one(rank, write, timeout_s) for rank in ranks)
        await self._call_one(0, remote(LearnerRank.finish_checkpoint, folder, extra), timeout_s)

    async def export_hf(self, folder: Path) -> None:
        """Write the policy as a Hugging Face folder."""
        await self._call_all(remote(LearnerRank.export_hf, folder), self._config.update_timeout_s)

    def abandon(self) -> None:
        """Kill all ranks at once: a rank stuck in a broadcast cannot answer. Create a new group then."""
        self._kill()

    async def close(self) -> None:
        """End all ranks and free their resources. Raises no error for a rank that has died.

        Returns when the processes of all ranks have ended, including those killed after a failure, because
        they hold their memory until then.
        """
        if self._ranks:
            try:
                await self._call_all(remote(LearnerRank.leave), self._shutdown_timeout_s)
            except LearnerFailed as error:
                logger.warning("learner ranks did not end in time and were killed: %s", error)
        self._kill()
        processes, self._processes = self._processes, []
        pids_of: dict[str, list[int]] = {}
        for node, pid in processes:
            pids_of.setdefault(node, []).append(pid)
        await asyncio.gather(*(self._ended(node, pids) for node, pids in pids_of.items()))

    async def _place(self) -> None:
        config = self._config
        try:
            self._placement = await reserve(
                "learner",
                [bundle_of(config.cpus_per_rank, config.gpus_per_rank)] * config.ranks,
                self._placement_timeout_s,
                "lower learner.ranks or learner.cpus_per_rank, or add nodes",
                label_selector=config.label_selector,
            )
        except PlacementError as error:
            raise LearnerFailed(str(error)) from None
        # Ray's type annotations lack this option.
        actor: Any = ray.remote(concurrency_groups=CONCURRENCY)(LearnerRank)  # type: ignore[call-overload]
        threads = max(1, int(config.cpus_per_rank))
        self._ranks = [
            actor.options(
                max_restarts=0,
                num_cpus=config.cpus_per_rank,
                num_gpus=config.gpus_per_rank,
                runtime_env={"env_vars": rank_environment(config) | self._environment},
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=self._placement, placement_group_bundle_index=rank
                ),
            ).remote(rank, self._spec, threads)
            for rank in range(config.ranks)
        ]

    def _plan(self, samples: Sequence[TrainSample]) -> list[RankPlan]:
        """Plan the groups and forward passes of all ranks together."""
        groups, budget = [sample.group for sample in samples], self._config.micro_batch_tokens
        return plan_update(groups, len(self._ranks), budget, self._layout == "packed")

    def _shards(
        self, samples: Sequence[TrainSample], plans: Sequence[RankPlan]
    ) -> list[tuple[RankShard, list[np.ndarray]]]:
        """Return each rank's shard, and its groups' frames as arguments of a remote call."""
        completions = sum(len(s.group.completions) for s in samples)
        tokens = sum(s.group.n_tokens for s in samples)
        shards = []
        for plan in plans:
            # A rank without a group takes part in every collective, with the data of the shortest group.
            mine = [samples[i] for i in plan.groups] or [min(samples, key=lambda s: s.group.n_tokens)]
            known = [s.reference for s in mine if s.reference is not None]
            shard = RankShard(
                groups=[s.group for s in mine],
                advantages=[list(s.advantages) for s in mine],
                filler=not plan.groups,
                completions=completions,
                tokens=tokens,
                passes=plan.passes,
                reference=known if len(known) == len(mine) else None,
            )
            shards.append((shard, [value_of(s.frames) for s in mine]))
        return shards

    async def _call_one(self, rank: int, call: RemoteCall[LearnerRank, T], timeout_s: float) -> T:
        started_s = time.monotonic()
        name = f"learner rank {rank}"
        if rank >= len(self._ranks):
            raise LearnerFailed(f"{name}.{call.method}: the ranks have ended")
        try:
            return await call.on(self._ranks[rank], name, timeout_s)
        except DeadlineError as error:
            raise LearnerFailed(str(error)) from None
        except ray.exceptions.RayError as error:
            if permanent := permanent_cause(error):
                raise permanent from error
            seconds = time.monotonic() - started_s
            raise LearnerFailed(
                f"{name}.{call.method}: failed after {seconds:.1f} s: {explained(error)}"
            ) from error

    async def _call_all(self, call: RemoteCall[LearnerRank, T], timeout_s: float) -> list[T]:
        """Make `call` on every rank, after the calls in progress."""
        async with self._turn:
            return await self._call_each([call] * len(self._ranks), timeout_s)

    async def _call_each(self, calls: Sequence[RemoteCall[LearnerRank, T]], timeout_s: float) -> list[T]:
        """Make one call on each rank. The first failure ends all ranks.

        The caller must hold `_turn`, because ranks must make their collectives in the same order.
        """
        if not self._ranks:
            raise LearnerFailed("the learner has no rank that runs")
        tasks = [
            asyncio.ensure_future(self._call_one(rank, call, timeout_s)) for rank, call in enumerate(calls)
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if any(t.done() and t.exception() for t in tasks):
                # Other ranks report a broken connection to a dead rank, often before Ray reports its death.
                await asyncio.wait(tasks, timeout=_GRACE_S)
                self._kill()
                raise _root_cause([error for t in tasks if t.done() and (error := t.exception())])
            return [t.result() for t in tasks]
        finally:
            for task in tasks:
                task.cancel()

    async def _ended(self, node: str, pids: list[int]) -> None:
        """Wait until the ranks' processes on one node have ended. If the node is gone, they have ended."""
        if node not in {n["NodeID"] for n in ray.nodes() if n["Alive"]}:
            return
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        task: Any = ray.remote(processes_left)
        look = task.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        timeout_s = self._shutdown_timeout_s
        try:
            left = await within(look.remote(pids, timeout_s), 2 * timeout_s, "looking for learner processes")
        except (DeadlineError, ray.exceptions.RayError) as error:
            logger.warning("cannot find out whether the learner's processes %s have ended: %s", pids, error)
            return
        if left:
            logger.warning("learner processes %s still run %g s after they were killed", left, timeout_s)

    def _kill(self) -> None:
        for rank in self._ranks:
            ray.kill(rank, no_restart=True)
        self._ranks = []
        if self._placement is not None:
            remove_placement_group(self._placement)
            self._placement = None


def _root_cause(errors: Sequence[BaseException]) -> BaseException:
    """Select the error that caused the others: a permanent error, else a death, else the first error."""
    permanent = [e for e in errors if isinstance(e, PermanentError)]
    deaths = [e for e in errors if isinstance(e.__cause__, ACTOR_IS_GONE)]
    return (permanent or deaths or errors)[0]

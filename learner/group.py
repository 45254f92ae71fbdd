"""The learner as the controller sees it: ZeRO-3 ranks that start, work and end together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from data.errors import PermanentError, permanent_cause
from data.frame_tokens import DEFAULT_FRAME_TOKENS, FrameTokens
from learner.batch_planning import spread
from learner.config import LearnerConfig
from learner.rank import CONCURRENCY, LearnerRank
from learner.records import LearnerInfo, RankShard, TrainSample
from learner.trainer import LearnerSpec
from learner.weight_transfer import WeightLayout
from learner.zero import Rendezvous
from runtime.actor_death import ACTOR_IS_GONE
from runtime.calls import DeadlineError, within
from runtime.node_labels import on_nodes

logger = logging.getLogger(__name__)

_GRACE_S = 2.0
"""After a first failure, how long to wait for a better explanation from another rank."""


class LearnerFailed(RuntimeError):
    """A rank died, failed or missed a deadline. All ranks have ended; a new group may succeed."""


class LearnerGroup:
    """
        learner = LearnerGroup(config, model_path, total_updates, temperature=1.0)
        info = await learner.start(checkpoint=None)
        metrics = await learner.update(samples, version=0)
        version, buckets = await learner.weight_buckets()
        await learner.close()

    Calls made at once take turns. Not restartable: after `close` or `LearnerFailed`, make a new one. After a
    PermanentError, which every call can raise as it was raised in a rank, a new one would fail again.
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
        alone: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    ) -> None:
        """Args: alone: entered while ranks start or update, and so take and free GPU memory."""
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
        )
        self._placement_timeout_s = placement_timeout_s
        self._shutdown_timeout_s = shutdown_timeout_s
        self._placement: PlacementGroup | None = None
        self._ranks: list[Any] = []
        self._turn = asyncio.Lock()

    async def start(self, checkpoint: Path | None = None) -> LearnerInfo:
        """Place and start all ranks and load the model, then `checkpoint` if given.

        Raises:
            LearnerFailed: without the resources in time, or if a rank fails.
        """
        try:
            await self._place()
            host, port = await self._call_one(0, "address", self._config.start_timeout_s)
            timeout_s = self._config.collective_timeout_s
            where = [Rendezvous(host, port, r, len(self._ranks), timeout_s) for r in range(len(self._ranks))]
            async with self._alone():
                infos = await self._call_all(
                    "start", self._config.start_timeout_s, lambda rank: (where[rank], checkpoint)
                )
        except BaseException:
            self._kill()
            raise
        return infos[0]

    async def update(self, samples: Sequence[TrainSample], version: int) -> dict[str, float]:
        """One GRPO update on all `samples`; returns its metrics.

        Args:
            samples: groups with advantages; spread over the ranks by their token counts.
            version: updates done before this one.
        """
        if not samples:
            raise ValueError("an update needs at least one group")
        shards = self._shards(samples)
        async with self._alone():
            replies = await self._call_all(
                "update",
                self._config.update_timeout_s,
                lambda rank: (version, shards[rank][0], *shards[rank][1]),
            )
        return replies[0]

    async def logprobs(self, samples: Sequence[TrainSample]) -> list[list[list[float]]]:
        """Log-probs of every completion token under the current policy, by sample and completion."""
        owners = self._assign(samples)
        shards = self._shards(samples)
        replies = await self._call_all(
            "logprobs", self._config.update_timeout_s, lambda rank: (shards[rank][0], *shards[rank][1])
        )
        found = {
            i: reply
            for mine, part in zip(owners, replies, strict=True)
            for i, reply in zip(mine, part, strict=False)
        }
        return [found[i] for i in range(len(samples))]

    async def weight_buckets(self) -> tuple[int, list[ray.ObjectRef]]:
        """The current policy in the object store: one dict of HF name to numpy array for each bucket.

        Waits for an update in progress, so the version that the last update led to comes with them: 0 if
        there was none since the start, from a checkpoint or not. The objects live as long as rank 0 and the
        references do.
        """
        replies = await self._call_all("weight_buckets", self._config.update_timeout_s)
        return replies[0]

    async def weight_layout(self) -> WeightLayout:
        """What `send_weights` sends, in its order."""
        return (await self._call_all("weight_layout", self._config.update_timeout_s))[0]

    async def transfer_address(self) -> tuple[str, int]:
        """An address on which `join_transfer` can open a group."""
        return await self._call_one(0, "address", self._config.collective_timeout_s)

    async def join_transfer(self, host: str, port: int, world_size: int, timeout_s: float) -> None:
        """Open the NCCL group of rank 0 and the engines; returns when all `world_size` members are in."""
        await self._call_all("join_transfer", timeout_s, lambda _: (host, port, world_size))

    async def send_weights(self, timeout_s: float) -> None:
        """Broadcast the current policy over the group that `join_transfer` opened.

        Raises:
            LearnerFailed: if an engine does not take it in time; a broadcast that hangs cannot be called off.
        """
        await self._call_all("send_weights", timeout_s)

    async def save(self, folder: Path, extra: dict[str, Any] | None = None) -> None:
        """Write a checkpoint; `extra` (JSON) comes back from `start(checkpoint=folder)`."""
        await self._call_all("save", self._config.update_timeout_s, lambda _: (folder, extra or {}))

    async def export_hf(self, folder: Path) -> None:
        """Write the policy as a Hugging Face folder."""
        await self._call_all("export_hf", self._config.update_timeout_s, lambda _: (folder,))

    def abandon(self) -> None:
        """End all ranks at once, for one that sits in a broadcast answers nothing; make a new group to go
        on."""
        self._kill()

    async def close(self) -> None:
        """End all ranks and give their resources back; never raises for a rank that is already gone."""
        if self._ranks:
            try:
                await self._call_all("leave", self._shutdown_timeout_s)
            except LearnerFailed as error:
                logger.warning("learner ranks did not end in order and were killed: %s", error)
        ranks = self._ranks
        self._kill()
        await asyncio.gather(*(self._gone(rank) for rank in ranks))

    async def _place(self) -> None:
        config = self._config
        bundle = {"CPU": config.cpus_per_rank}
        if config.gpus_per_rank:
            bundle["GPU"] = float(config.gpus_per_rank)
        self._placement = placement_group(
            [dict(bundle) for _ in range(config.ranks)],
            strategy="PACK",
            bundle_label_selector=[config.label_selector] * config.ranks if config.label_selector else None,
        )
        try:
            await within(self._placement.ready(), self._placement_timeout_s, "learner placement")
        except DeadlineError:
            free = {k: v for k, v in ray.available_resources().items() if k in bundle}
            whole = {k: v for k, v in ray.cluster_resources().items() if k in bundle}
            raise LearnerFailed(
                f"no room for the learner after {self._placement_timeout_s:.0f} s: it asks for "
                f"{config.ranks} x {bundle}{on_nodes(config.label_selector)}, the cluster has {whole}, "
                f"of which free {free}; lower learner.ranks or learner.cpus_per_rank, or add nodes"
            ) from None
        # Ray's own annotations leave this option out.
        actor: Any = ray.remote(concurrency_groups=CONCURRENCY)(LearnerRank)  # type: ignore[call-overload]
        threads = max(1, int(config.cpus_per_rank))
        self._ranks = [
            actor.options(
                max_restarts=0,
                num_cpus=config.cpus_per_rank,
                num_gpus=config.gpus_per_rank,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=self._placement, placement_group_bundle_index=rank
                ),
            ).remote(rank, self._spec, threads)
            for rank in range(config.ranks)
        ]

    def _assign(self, samples: Sequence[TrainSample]) -> list[list[int]]:
        """Sample indices of each rank; empty for a rank that only keeps step."""
        costs = [len(s.group.prompt_token_ids) + s.group.n_tokens for s in samples]
        return spread(costs, len(self._ranks))

    def _shards(self, samples: Sequence[TrainSample]) -> list[tuple[RankShard, list[ray.ObjectRef]]]:
        completions = sum(len(s.group.completions) for s in samples)
        tokens = sum(s.group.n_tokens for s in samples)
        shards = []
        for own in self._assign(samples):
            # A rank without a group of its own still takes part in every collective, with any group's data.
            mine = [samples[i] for i in own] or [min(samples, key=lambda s: s.group.n_tokens)]
            shard = RankShard(
                groups=[s.group for s in mine],
                advantages=[list(s.advantages) for s in mine],
                filler=not own,
                completions=completions,
                tokens=tokens,
            )
            shards.append((shard, [s.frames for s in mine]))
        return shards

    async def _call_one(self, rank: int, method: str, timeout_s: float, *args: Any) -> Any:
        started_s = time.monotonic()
        try:
            return await within(
                getattr(self._ranks[rank], method).remote(*args), timeout_s, f"learner rank {rank}.{method}"
            )
        except DeadlineError as error:
            raise LearnerFailed(str(error)) from None
        except ray.exceptions.RayError as error:
            if permanent := permanent_cause(error):
                raise permanent from error
            seconds = time.monotonic() - started_s
            raise LearnerFailed(
                f"learner rank {rank}.{method}: failed after {seconds:.1f} s: {error}"
            ) from error

    async def _call_all(
        self, method: str, timeout_s: float, args: Callable[[int], tuple[Any, ...]] = lambda _: ()
    ) -> list[Any]:
        """Call `method` on every rank; the first failure ends them all.

        Ranks must make their collectives in the same order, so calls do not overlap.
        """
        async with self._turn:
            return await self._call_ranks(method, timeout_s, args)

    async def _call_ranks(
        self, method: str, timeout_s: float, args: Callable[[int], tuple[Any, ...]]
    ) -> list[Any]:
        if not self._ranks:
            raise LearnerFailed(f"learner: {method} called, but no rank is running")
        tasks = [
            asyncio.ensure_future(self._call_one(rank, method, timeout_s, *args(rank)))
            for rank in range(len(self._ranks))
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = [t for t in tasks if t.done() and t.exception()]
            if failed:
                # The others notice a dead rank by a broken connection, often before Ray reports its death.
                await asyncio.wait(tasks, timeout=_GRACE_S)
                self._kill()
                raise _root_cause([t.exception() for t in tasks if t.done() and t.exception()])
            return [t.result() for t in tasks]
        finally:
            for task in tasks:
                task.cancel()

    async def _gone(self, rank: Any) -> None:
        """Wait until Ray says that an actor is dead."""
        try:
            while True:
                await within(rank.ping.remote(), self._shutdown_timeout_s, "learner rank.ping")
                await asyncio.sleep(0.05)
        except ACTOR_IS_GONE:
            return

    def _kill(self) -> None:
        for rank in self._ranks:
            ray.kill(rank, no_restart=True)
        self._ranks = []
        if self._placement is not None:
            remove_placement_group(self._placement)
            self._placement = None


def _root_cause(errors: Sequence[BaseException | None]) -> BaseException:
    """What explains the others: an error that would repeat, then a death, then a broken connection."""
    known = [e for e in errors if e is not None]
    permanent = [e for e in known if isinstance(e, PermanentError)]
    deaths = [e for e in known if isinstance(e.__cause__, ACTOR_IS_GONE)]
    return (permanent or deaths or known)[0]

"""Real ZeRO-3 ranks in processes of their own, without Ray."""

import multiprocessing as mp
import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.records import Group
from learner.batch_planning import plan_update
from learner.config import LearnerConfig
from learner.records import RankShard
from learner.trainer import LearnerSpec

TIMEOUT_S = 240


@dataclass(frozen=True)
class Batch:
    """What one update trains on."""

    groups: list[Group]
    frames: list[np.ndarray]
    advantages: list[list[float]]
    reference: list[list[np.ndarray]] | None = None

    def owners(self, ranks: int) -> list[list[int]]:
        return [plan.groups for plan in plan_update(self.groups, ranks, 10**6, packed=True)]

    def shards(self, ranks: int) -> list[tuple[RankShard, list[np.ndarray]]]:
        completions = sum(len(g.completions) for g in self.groups)
        tokens = sum(g.n_tokens for g in self.groups)
        shards = []
        for own in self.owners(ranks):
            mine = own or [0]
            shard = RankShard(
                [self.groups[i] for i in mine],
                [self.advantages[i] for i in mine],
                not own,
                completions,
                tokens,
                reference=self.reference and [self.reference[i] for i in mine],
            )
            shards.append((shard, [self.frames[i] for i in mine]))
        return shards


@dataclass(frozen=True)
class Script:
    """What ranks do: load a checkpoint, train on the batches in turn, save, and report.

    `release_all` has DeepSpeed give back every parameter after its use, as it does with those of large models
    alone; the small ones of a test model would stay whole. `snapshot_to` is written from a snapshot, after
    one more update on the last batch. `early` names groups of each batch, cohort by cohort: their reference
    log-probs are computed before the update, and handed to it.
    """

    config: LearnerConfig
    model: Path
    batches: Sequence[Batch] = ()
    first_version: int = 0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    load_from: Path | None = None
    save_to: Path | None = None
    snapshot_to: Path | None = None
    export_to: Path | None = None
    release_all: bool = False
    early: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Report:
    """Rank 0's metrics of each update and the whole weights at the end."""

    metrics: list[dict[str, float]]
    weights: dict[str, np.ndarray]
    layout: str
    extra: dict[str, Any]


def run_ranks(script: Script, ranks: int = 2) -> Report:
    """Run `script` on `ranks` gloo ranks; raises when one of them failed, with what it said.

    Processes of our own and not a `multiprocessing.Pool`: a pool replaces a worker that dies and waits for
    its answer for ever, and its `terminate` can wait for its own threads.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with ours, theirs:
        processes = [
            context.Process(target=_answer, args=(theirs, script, rank, ranks, port), daemon=True)
            for rank in range(ranks)
        ]
        try:
            for process in processes:
                process.start()
            return _report_of(ours, processes)
        finally:
            for process in processes:
                process.kill()
                process.join()


def _report_of(answers: Connection, processes: Sequence[SpawnProcess]) -> Report:
    """Rank 0's report, once every rank has ended well."""
    deadline = time.monotonic() + TIMEOUT_S
    report = None
    while report is None or any(process.is_alive() for process in processes):
        if answers.poll(0.1):
            answer = answers.recv()
            if isinstance(answer, str):
                raise RuntimeError(answer)
            report = answer
        if any(process.exitcode for process in processes) and not answers.poll(1):
            raise RuntimeError(f"ranks ended with {[process.exitcode for process in processes]}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(processes)} ranks did not end within {TIMEOUT_S} s")
    return report


def _answer(answers: Connection, script: Script, rank: int, ranks: int, port: int) -> None:
    try:
        report = _rank(script, rank, ranks, port)
    except Exception:
        answers.send(f"rank {rank} failed:\n{traceback.format_exc()}")
        raise
    if rank == 0:
        answers.send(report)
    # The rank has left its group. What gloo's threads make of the interpreter's end is not under test: now
    # and then one of them aborts the process.
    os._exit(0)


def _rank(script: Script, rank: int, ranks: int, port: int) -> Report:
    import torch

    from learner.checkpoint import export_hf
    from learner.host_copy import HostCopy
    from learner.trainer import Trainer
    from learner.weights import gather_buckets
    from learner.zero import Rendezvous, adamw, join_process_group, leave_process_group, sgd

    torch.set_num_threads(1)
    if script.release_all:
        _release_all()
    join_process_group(Rendezvous("127.0.0.1", port, rank, ranks, 60), "cpu")
    make: Callable[..., Any] = sgd if script.optimizer == "sgd" else adamw
    trainer = Trainer(LearnerSpec(script.config, str(script.model), 20, 1.0, "cpu"), make)
    extra = trainer.load(script.load_from) if script.load_from else {}
    metrics = []
    for version, batch in enumerate(script.batches, start=script.first_version):
        if script.early:
            batch = replace(batch, reference=_reference(trainer, batch, script.early, rank, ranks))
        shard, frames = batch.shards(ranks)[rank]
        metrics.append(trainer.update(shard, frames, version))
    host = HostCopy(chunk_bytes=2**16)
    host.take(named for b in gather_buckets(trainer.engine.module, 2**20) for named in b.items())
    weights = {name: tensor.numpy() for name, tensor in host.tensors(torch.device("cpu"))}
    if script.save_to:
        trainer.save(script.save_to, {"version": script.first_version + len(metrics)})
    if script.export_to:
        export_hf(trainer.engine.module, trainer.processor, script.export_to, 2**18)
    if script.snapshot_to:
        _write_snapshot(trainer, script, rank, ranks)
    leave_process_group()
    return Report(metrics, weights, trainer.layout, extra)


def _reference(
    trainer: Any, batch: Batch, cohorts: Sequence[Sequence[int]], rank: int, ranks: int
) -> list[list[np.ndarray]]:
    """Of all groups, on every rank."""
    import torch

    found: dict[int, list[np.ndarray]] = {}
    for cohort in cohorts:
        part = Batch(
            [batch.groups[i] for i in cohort],
            [batch.frames[i] for i in cohort],
            [batch.advantages[i] for i in cohort],
        )
        shard, frames = part.shards(ranks)[rank]
        gathered: list[Any] = [None] * ranks
        torch.distributed.all_gather_object(gathered, trainer.reference(shard, frames))
        for own, values in zip(part.owners(ranks), gathered, strict=True):
            found |= {cohort[i]: value for i, value in zip(own, values, strict=False)}
    return [found[i] for i in range(len(batch.groups))]


def _write_snapshot(trainer: Any, script: Script, rank: int, ranks: int) -> None:
    import torch

    from learner.checkpoint import Snapshot, begin_checkpoint, finish_checkpoint, write_shard

    assert script.snapshot_to is not None
    snapshot, version = Snapshot(), script.first_version + len(script.batches)
    snapshot.take(trainer.engine)
    shard, frames = script.batches[-1].shards(ranks)[rank]
    trainer.update(shard, frames, version)
    if rank == 0:
        begin_checkpoint(script.snapshot_to)
    torch.distributed.barrier()
    write_shard(snapshot.copy, script.snapshot_to, rank, ranks)
    torch.distributed.barrier()
    if rank == 0:
        finish_checkpoint(script.snapshot_to, snapshot.index, {"version": version})


def _release_all() -> None:
    from learner import zero

    def released(settings: dict[str, Any]) -> dict[str, Any]:
        settings["zero_optimization"] |= {
            "stage3_param_persistence_threshold": 0,
            "stage3_max_live_parameters": 0,
            "stage3_max_reuse_distance": 0,
        }
        return settings

    trained, reference = zero.zero_config, zero.reference_config
    zero.zero_config = lambda config, device: released(trained(config, device))
    zero.reference_config = lambda config, device: released(reference(config, device))

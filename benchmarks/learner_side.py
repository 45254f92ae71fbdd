"""A learner that waits to be asked, so that several can take turns on one machine.

    with LearnerSide(config, model) as packed, LearnerSide(other, model) as unpacked:
        packed.update(batch)
        unpacked.update(batch)

Real ZeRO-3 ranks (gloo on the CPU, NCCL on CUDA), each in a process of its own: while one side works the
other's processes wait, and each side has its own peak of memory.
"""

import multiprocessing as mp
import os
import resource
import socket
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from learner.config import LearnerConfig
from learner.zero import Device
from tests.ranks import Batch

TIMEOUT_S = 1800.0
TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True)
class UpdateCost:
    """One update: seconds by the clock, of the slowest rank; seconds of a processor, over all ranks (on CUDA
    those of the host). On a machine with other work the latter is the steadier of the two."""

    clock_s: float
    processor_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the rank that took most: MB before the first update, and at the highest since."""

    before_mb: float
    peak_mb: float

    @property
    def rise_mb(self) -> float:
        return self.peak_mb - self.before_mb


class LearnerSide:
    """Args:
    config: `ranks` of it are started.
    threads: of each rank, on the CPU.
    """

    def __init__(self, config: LearnerConfig, model: Path, device: Device = "cpu", threads: int = 1) -> None:
        self._config, self._model, self._device, self._threads = config, model, device, threads
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._versions = 0

    def __enter__(self) -> Self:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = mp.get_context("spawn")
        for rank in range(self._config.ranks):
            ours, theirs = context.Pipe()
            arguments = (theirs, self._config, str(self._model), self._device, self._threads, rank, port)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        try:
            self.layout: str = self._answers("starting")[0]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def update(self, batch: Batch) -> UpdateCost:
        """Train on `batch`."""
        for pipe, shard in zip(self._pipes, batch.shards(self._config.ranks), strict=True):
            pipe.send((shard, self._versions))
        self._versions += 1
        costs = self._answers("an update")
        return UpdateCost(max(c.clock_s for c in costs), sum(c.processor_s for c in costs))

    def memory(self) -> Memory:
        for pipe in self._pipes:
            pipe.send(None)
        return max(self._answers("memory"), key=lambda memory: memory.peak_mb)

    def _answers(self, what: str) -> list[Any]:
        found = []
        for rank, (pipe, process) in enumerate(zip(self._pipes, self._processes, strict=True)):
            try:
                if not pipe.poll(TIMEOUT_S):
                    raise TimeoutError(f"rank {rank}: {what}: no answer within {TIMEOUT_S:g} s")
                answer = pipe.recv()
            except (EOFError, ConnectionResetError):
                process.join()
                raise RuntimeError(f"rank {rank}: {what}: it ended with code {process.exitcode}") from None
            if isinstance(answer, Exception):
                raise answer
            found.append(answer)
        return found


def _serve(
    pipe: Connection, config: LearnerConfig, model: str, device: Device, threads: int, rank: int, port: int
) -> None:
    """A rank: trains on what comes through the pipe, until it is killed."""
    os.environ["CUDA_VISIBLE_DEVICES"] = str(rank)  # a GPU each, as Ray gives its actors
    try:
        import torch

        from learner.trainer import LearnerSpec, Trainer
        from learner.zero import Rendezvous, join_process_group

        torch.set_num_threads(threads)
        join_process_group(Rendezvous("127.0.0.1", port, rank, config.ranks, TIMEOUT_S), device)
        trainer = Trainer(LearnerSpec(config, model, 1000, TEMPERATURE, device))
        before_mb = _peak_mb(device)
        pipe.send(trainer.layout)
        while True:
            request = pipe.recv()
            if request is None:
                pipe.send(Memory(before_mb, _peak_mb(device)))
                continue
            (shard, frames), version = request
            torch.distributed.barrier()
            began_s, began_processor_s = time.perf_counter(), time.process_time()
            metrics = trainer.update(shard, frames, version)
            if device == "cuda":
                torch.cuda.synchronize()
            if metrics["learner/skipped"]:
                raise RuntimeError(f"an update was skipped: {metrics}")
            pipe.send(UpdateCost(time.perf_counter() - began_s, time.process_time() - began_processor_s))
    except EOFError:
        os._exit(0)  # the other side is gone
    except Exception:
        pipe.send(RuntimeError(f"rank {rank} failed:\n{traceback.format_exc()}"))
        raise


def _peak_mb(device: Device) -> float:
    """Resident memory of this process at its highest; on CUDA, the GPU memory that its tensors took."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

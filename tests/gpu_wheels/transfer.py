"""What the weight sync tells engines over NCCL, recorded from a push to one that only listens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import torch
from torch import nn

from cluster.config import load_config
from cluster.weight_sync import NcclSync
from learner.group import LearnerGroup
from learner.weight_transfer import WeightLayout, weight_layout
from rollout.fleet import RolloutFleet
from rollout.worker import HeldVersion


class Learner:
    """Sends nothing."""

    async def weight_layout(self) -> WeightLayout:
        return weight_layout(nn.ModuleDict({"model": nn.Linear(3, 2, bias=False, dtype=torch.bfloat16)}))

    async def transfer_address(self) -> tuple[str, int]:
        return "127.0.0.1", 29500

    async def join_transfer(self, host: str, port: int, world_size: int, timeout_s: float) -> None:
        pass

    async def gather_weights(self) -> int:
        return 1

    async def send_weights(self, timeout_s: float) -> float:
        return 0.0


class Fleet:
    """One worker that confirms all that it is told."""

    def __init__(self) -> None:
        self.init_info: dict[str, Any] = {}
        self.update_info: dict[str, Any] = {}

    async def ping_everyone(self) -> dict[str, int]:
        return {}

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[list[str]]:
        yield ["rollout-0"]

    async def open_transfer(self, worker_id: str, init_info: dict[str, Any]) -> None:
        self.init_info = init_info

    async def receive_weights(self, worker_id: str, version: int, update_info: dict[str, Any]) -> HeldVersion:
        self.update_info = update_info
        return HeldVersion(version)


def recorded_infos() -> tuple[dict[str, Any], dict[str, Any]]:
    """(of joining the group, of one push)."""
    fleet = Fleet()
    config = load_config(None, ["--rollout.gpus_per_replica=1", "--learner.gpus_per_rank=1"])
    sync = NcclSync(cast(LearnerGroup, Learner()), cast(RolloutFleet, fleet), config)
    asyncio.run(sync.push())
    return fleet.init_info, fleet.update_info

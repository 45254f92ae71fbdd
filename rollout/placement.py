"""Places workers on nodes: one placement group per worker, so that workers start and end independently."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from data.hub import commit_of
from rollout.config import RolloutConfig
from rollout.environment import engine_environment
from runtime.actors import ACTOR_IS_GONE
from runtime.calls import DeadlineError, within
from runtime.node_labels import matches
from runtime.placement import bundle_of, reserve

logger = logging.getLogger(__name__)

EXIT_TIMEOUT_S = 20.0
CONCURRENT_CALLS = 1000  # engines batch concurrent requests, so Ray must not queue calls


@dataclass(frozen=True, slots=True)
class Placement:
    """Resources on one node, reserved for one worker."""

    worker_id: str
    group: PlacementGroup
    config: RolloutConfig

    def actor_options(self, model_path: str, environment: Mapping[str, str]) -> dict[str, Any]:
        """Return the Ray options of an actor in this placement. Ray never restarts the actor: after a restart
        it would look healthy without holding the current weights.

        Args:
            environment: environment variables of the actor, in addition to those of `engine_environment`.
        """
        is_local = Path(model_path).exists() and commit_of(model_path) is None
        variables = engine_environment(self.config, is_local) | dict(environment)
        return {
            "num_cpus": self.config.cpus_per_replica,
            "num_gpus": self.config.gpus_per_replica,
            "max_restarts": 0,
            "max_concurrency": CONCURRENT_CALLS,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                self.group, placement_group_bundle_index=0
            ),
            "runtime_env": {"env_vars": variables},
        }

    async def end(self, actor: Any) -> None:
        """Kill the actor, wait until it is dead, and free the resources."""
        ray.kill(actor)
        try:
            await within(actor.ping.remote(), EXIT_TIMEOUT_S, f"{self.worker_id}: waiting for its end")
        except (ray.exceptions.RayError, DeadlineError) as error:
            if not isinstance(error, ACTOR_IS_GONE):
                logger.warning("%s may have left a process behind: %s", self.worker_id, error)
        remove_placement_group(self.group)


async def place(config: RolloutConfig, timeout_s: float, worker_id: str, number: int = 0) -> Placement:
    """Reserve the resources of one worker on one node.

    Workers are distributed round-robin over the nodes by their `number`. Ray by itself would fill one node
    first, because placement groups are independent of one another. A node that is full or gone is skipped.

    Raises PlacementError if the cluster does not grant the resources within `timeout_s`.
    """
    bundle = bundle_of(config.cpus_per_replica, config.gpus_per_replica)
    nodes = nodes_for(bundle, config.label_selector, ray.nodes())
    group = await reserve(
        worker_id,
        [bundle],
        timeout_s,
        "lower rollout.replicas, rollout.cpus_per_replica or rollout.gpus_per_replica, or add nodes",
        label_selector=config.label_selector,
        first_choice=nodes[number % len(nodes)] if nodes else None,
    )
    return Placement(worker_id, group, config)


def nodes_for(
    bundle: Mapping[str, float], selector: Mapping[str, str], nodes: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Return the ids of the live nodes that are large enough for `bundle` and match `selector`, largest
    first.

    Args:
        nodes: the result of `ray.nodes()`.
    """
    suitable = [
        node
        for node in nodes
        if node["Alive"]
        and matches(selector, node["Labels"])
        and all(node["Resources"].get(kind, 0.0) >= amount for kind, amount in bundle.items())
    ]
    suitable.sort(key=lambda node: ([-node["Resources"].get(kind, 0.0) for kind in bundle], node["NodeID"]))
    return [node["NodeID"] for node in suitable]

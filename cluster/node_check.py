"""Checks that a run's nodes have the builds of torch and vLLM that its configuration needs."""

import asyncio
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config import RunConfig
from rollout.placement import nodes_for
from runtime.calls import DeadlineError, together, within
from runtime.errors import ConfigError
from runtime.placement import bundle_of
from runtime.software import Software, installed_software, software_problem

ANSWER_TIMEOUT_S = 120.0


def check_nodes(config: RunConfig) -> None:
    """Check the software of all nodes that may run learner ranks or rollout workers, in parallel.

    A node that the cluster adds later is checked when a worker starts there. Raises ConfigError.
    """
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    found = asyncio.run(_ask(_candidates(config)))
    problems = [
        f"node {addresses[node]}: {problem}"
        for node, software in found.items()
        if (problem := software_problem(software, config.device))
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _candidates(config: RunConfig) -> list[str]:
    """Return the ids of nodes that are large enough for a rank or a replica and match its label selector."""
    learner, rollout = config.learner, config.rollout
    bundles = [
        (bundle_of(learner.cpus_per_rank, learner.gpus_per_rank), learner.label_selector),
        (bundle_of(rollout.cpus_per_replica, rollout.gpus_per_replica), rollout.label_selector),
    ]
    nodes = ray.nodes()
    return sorted({node for bundle, selector in bundles for node in nodes_for(bundle, selector, nodes)})


async def _ask(nodes: list[str]) -> dict[str, Software]:
    remote: Any = ray.remote(installed_software)

    async def ask(node: str) -> Software:
        options = remote.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, False))
        answer: Software = await within(options.remote(), ANSWER_TIMEOUT_S, f"software of node {node}")
        return answer

    try:
        return dict(zip(nodes, await together(ask(node) for node in nodes), strict=True))
    except (DeadlineError, ray.exceptions.RayError) as error:
        raise ConfigError(f"a node does not report what is installed on it: {error}") from None

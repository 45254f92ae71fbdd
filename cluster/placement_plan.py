"""Predicts on which nodes Ray will place a run's actors. Pure.

Ray makes the decision. The prediction: learner ranks use as few nodes as possible, rollout replicas are
spread round-robin over the other nodes, and both use only nodes that match their label selectors.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.config import RunConfig
from runtime.node_labels import matches, on_nodes


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster, with its total CPUs and GPUs, including those in use."""

    address: str
    labels: Mapping[str, str]
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Demand:
    """A demand for `count` equal bundles, each on one node. `settings` names the settings that change it."""

    what: str
    count: int
    cpus: float
    gpus: float
    selector: Mapping[str, str]
    settings: str

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.count} {self.what} of {self.cpus:g} CPU{gpus}{on_nodes(self.selector)}"


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """The number of bundles by node and kind, in the order of `nodes`. `missing` describes the bundles that
    do not fit."""

    nodes: list[Node]
    placed: list[dict[str, int]]
    missing: list[str]


def demands(config: RunConfig) -> tuple[Demand, Demand]:
    """Return the demands of the learner and the rollout fleet."""
    learner, rollout = config.learner, config.rollout
    return (
        Demand(
            "learner ranks",
            learner.ranks,
            learner.cpus_per_rank,
            learner.gpus_per_rank,
            learner.label_selector,
            "learner.ranks, learner.cpus_per_rank, learner.label_selector",
        ),
        Demand(
            "rollout replicas",
            rollout.replicas,
            rollout.cpus_per_replica,
            rollout.gpus_per_replica,
            rollout.label_selector,
            "rollout.replicas, rollout.gpus_per_replica, rollout.cpus_per_replica, rollout.label_selector",
        ),
    )


def plan_placement(nodes: Sequence[Node], learner: Demand, rollout: Demand) -> PlacementPlan:
    """Place learner ranks on as few nodes as possible, then spread rollout replicas over the nodes."""
    free = [[node.cpus, float(node.gpus)] for node in nodes]
    placed = [{learner.what: 0, rollout.what: 0} for _ in nodes]

    def room(index: int, demand: Demand) -> int:
        cpus, gpus = free[index]
        if not matches(demand.selector, nodes[index].labels):
            return 0
        return int(min(cpus / demand.cpus, gpus / demand.gpus if demand.gpus else float("inf")))

    def put(index: int, demand: Demand) -> None:
        free[index][0] -= demand.cpus
        free[index][1] -= demand.gpus
        placed[index][demand.what] += 1

    for _ in range(learner.count):
        open_nodes = [i for i in range(len(nodes)) if room(i, learner)]
        if open_nodes:  # prefer a node that has ranks already, then the node with the most room
            put(max(open_nodes, key=lambda i: (placed[i][learner.what], room(i, learner), -i)), learner)
    for _ in range(rollout.count):
        open_nodes = [i for i in range(len(nodes)) if room(i, rollout)]
        if open_nodes:
            put(min(open_nodes, key=lambda i: (placed[i][rollout.what], -room(i, rollout), i)), rollout)
    return PlacementPlan(list(nodes), placed, [*_missing(placed, nodes, (learner, rollout))])


def describe_nodes(nodes: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Return the live nodes from the result of `ray.nodes()`."""
    return [
        Node(
            node["NodeManagerAddress"],
            node["Labels"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in nodes
        if node["Alive"]
    ]


def _missing(placed: list[dict[str, int]], nodes: Sequence[Node], asked: Sequence[Demand]) -> Iterable[str]:
    for demand in asked:
        fitting = sum(row[demand.what] for row in placed)
        if fitting < demand.count:
            suitable = [node for node in nodes if matches(demand.selector, node.labels)]
            have = ", ".join(f"{n.address} ({n.cpus:g} CPU, {n.gpus:g} GPU)" for n in suitable) or "none"
            yield (
                f"needs {demand}; {fitting} of them fit. Such nodes here: {have}. "
                f"Lower {demand.settings}, or add nodes"
            )

"""Resources for actors: a placement group, or an error that says what was asked for and what there was."""

import asyncio
from collections.abc import Mapping, Sequence

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from runtime.node_labels import on_nodes


class PlacementError(RuntimeError):
    """The cluster did not grant an actor's resources in time; says which, what it has, and the fix."""


async def reserve(
    who: str,
    bundles: Sequence[dict[str, float]],
    timeout_s: float,
    fix: str,
    *,
    label_selector: Mapping[str, str] | None = None,
    first_choice: str | None = None,
) -> PlacementGroup:
    """Reserve the resources of actors, one bundle each, on as few nodes as possible.

    Args:
        who: whom it is for, for the message.
        bundles: all alike; one lies on one node.
        fix: what the user can do without them, for the message.
        label_selector: what the nodes' labels must be.
        first_choice: id of the node to take if it has room.

    Raises PlacementError if the cluster has not granted them within `timeout_s`.
    """
    selector = dict(label_selector or {})
    group = placement_group(
        list(bundles),
        strategy="PACK" if len(bundles) > 1 else "STRICT_PACK",  # only the latter heeds `first_choice`
        bundle_label_selector=[selector] * len(bundles) if selector else None,
        _soft_target_node_id=first_choice,
    )
    try:
        # `wait` blocks, and costs no worker process, as `ready` would.
        granted = await asyncio.to_thread(group.wait, timeout_s)
    except BaseException:
        remove_placement_group(group)
        raise
    if granted:
        return group
    remove_placement_group(group)
    times = f"{len(bundles)} x " if len(bundles) > 1 else ""
    raise PlacementError(
        f"{who}: no room for {times}{_words(bundles[0])}{on_nodes(selector)} within {timeout_s:g} s; "
        f"the cluster has {_words(ray.cluster_resources())}, of which {_words(ray.available_resources())} "
        f"are free; {fix}"
    )


def bundle_of(cpus: float, gpus: float) -> dict[str, float]:
    """The resources of one actor, as Ray wants them named."""
    return {"CPU": cpus, "GPU": float(gpus)} if gpus else {"CPU": cpus}


def _words(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{resources.get(kind, 0.0):g} {kind}" for kind in ("CPU", "GPU"))

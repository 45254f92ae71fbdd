"""Reserve resources for actors in a placement group. Errors name the requested and available resources."""

import asyncio
from collections.abc import Mapping, Sequence

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from runtime.node_labels import on_nodes


class PlacementError(RuntimeError):
    """The cluster did not grant resources in time. The message names the missing and available resources, and
    the fix."""


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
        who: the actors that need the resources, for the error message.
        bundles: equal bundles, each of which is placed on one node.
        fix: what the user can do if the resources are missing, for the error message.
        label_selector: conditions on the labels of the nodes.
        first_choice: id of the preferred node.

    Raises PlacementError if the cluster does not grant the resources within `timeout_s`.
    """
    selector = dict(label_selector or {})
    group = placement_group(
        list(bundles),
        strategy="PACK" if len(bundles) > 1 else "STRICT_PACK",  # only STRICT_PACK uses `first_choice`
        bundle_label_selector=[selector] * len(bundles) if selector else None,
        _soft_target_node_id=first_choice,
    )
    try:
        # Use `wait`, which blocks: `ready` would start a worker process.
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
    """The resources of one actor under the names that Ray uses."""
    return {"CPU": cpus, "GPU": float(gpus)} if gpus else {"CPU": cpus}


def _words(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{resources.get(kind, 0.0):g} {kind}" for kind in ("CPU", "GPU"))

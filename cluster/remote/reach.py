"""Asking a run that is going on in another process: its controller is a named actor."""

import asyncio
from typing import Any

import ray

from cluster.config import ClusterConfig, ConfigError
from cluster.controller_actor import actor_name, root_cause
from cluster.remote.whereabouts import Whereabouts
from runtime.calls import DeadlineError, within
from runtime.session import cluster_address, join_cluster


class AskFailed(RuntimeError):
    """A run did not do what it was asked, or did not answer; says why."""


def ask_run(run: Whereabouts, method: str, *args: Any, timeout_s: float) -> Any:
    """Call `method` of a run's controller; returns its answer.

    Raises:
        ConfigError: if no such run is going on.
        AskFailed: if the call fails, the run ends meanwhile, or there is no answer in time.
    """
    address = run.address or cluster_address(ClusterConfig()) or "auto"
    join_cluster(address)
    try:
        return asyncio.run(_ask(run.name, address, method, args, timeout_s))
    except DeadlineError as error:
        raise AskFailed(str(error)) from error
    except ray.exceptions.RayError as error:
        cause = root_cause(error)
        raise AskFailed(f"{actor_name(run.name)}.{method}: {type(cause).__name__}: {cause}") from error
    finally:
        ray.shutdown()  # a Ray that belongs to the run ends with it, and would take this process along


async def _ask(name: str, address: str, method: str, args: tuple[Any, ...], timeout_s: float) -> Any:
    try:
        controller: Any = ray.get_actor(actor_name(name))
    except ValueError:
        prefix = actor_name("")
        others = [n.removeprefix(prefix) for n in ray.util.list_named_actors() if n.startswith(prefix)]
        raise ConfigError(
            f"no run named '{name}' is going on at {address}; going on there: {', '.join(others) or 'none'}"
        ) from None
    return await within(getattr(controller, method).remote(*args), timeout_s, f"{actor_name(name)}.{method}")

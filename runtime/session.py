"""Connect a command to Ray: to a running cluster, or to one that it starts and stops on this machine."""

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from typing import Any

import ray

from runtime.config import ClusterConfig
from runtime.errors import ConfigError
from runtime.project import PROJECT_ROOT

NAMESPACE = "vqathinker"
SPARE_CPUS = 4


def in_submitted_job() -> bool:
    """Whether this process is the entry point of a `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def cluster_address(config: ClusterConfig) -> str | None:
    """The address of the cluster to join; None if Ray is to be started on this machine.

    Raises ConfigError for an http:// address, which accepts submitted jobs but no drivers.
    """
    address = config.address or os.environ.get("RAY_ADDRESS") or ("auto" if in_submitted_job() else None)
    if address is not None and address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{address} (cluster.address or RAY_ADDRESS) takes jobs and no drivers: put `ray job submit "
            f"--working-dir . --` before the command, or unset RAY_ADDRESS to run on this machine alone"
        )
    return address


def join_cluster(address: str, runtime_env: dict[str, Any] | None = None) -> None:
    """Connect to a running cluster as a driver, in the namespace of runs. Raises ConfigError on failure."""
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            runtime_env=runtime_env,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ConnectionError as error:
        raise ConfigError(
            f"no Ray cluster answers at '{address}' ({error}); check cluster.address or RAY_ADDRESS, or "
            f"unset both to run on this machine alone"
        ) from None


@contextlib.contextmanager
def ray_session(config: ClusterConfig, cpus_needed: float) -> Iterator[None]:
    """Join a cluster or start Ray on this machine; disconnect from it or stop it at the end.

    If Ray is started here, it is given as many CPUs as the run needs, even if the machine has fewer, because
    rollout and learner take turns. SPARE_CPUS are added for workers added during the run. A running cluster
    keeps its CPUs.
    """
    address = cluster_address(config)
    if address is None:
        store_mb = config.object_store_mb
        ray.init(
            num_cpus=max(os.cpu_count() or 1, math.ceil(cpus_needed) + SPARE_CPUS),
            object_store_memory=None if store_mb is None else store_mb * 2**20,
            include_dashboard=False,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": str(PROJECT_ROOT)}},
        )
    else:
        # A submitted job has already uploaded its working directory. Other drivers upload it here.
        join_cluster(address, None if in_submitted_job() else {"working_dir": str(PROJECT_ROOT)})
    try:
        yield
    finally:
        ray.shutdown()

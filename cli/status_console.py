"""`launch.py status`, printed."""

from datetime import timedelta

from rich.console import Console
from rich.table import Table

from cluster.remote.status import RunStatus

_SHOWN = ("reward/total", "policy/kl_to_base", "staleness/max", "timing/step_s", "learner/update_s", "sync/s")


def print_status(console: Console, status: RunStatus) -> None:
    """Where a run is, what its workers are doing, and some figures of its last update."""
    console.print(
        f"{status.run_dir}: {status.stage}; version {status.version} of {status.total_updates}, after "
        f"{timedelta(seconds=round(status.seconds))}\n"
        f"{status.videos_waiting} videos wait for a worker; so far {status.worker_restarts} workers were "
        f"replaced, and the learner was restarted {status.learner_restarts} times",
        highlight=False,
        markup=False,
    )
    table = Table("worker", "state", "node", "process", "outstanding tokens")
    for worker in status.workers:
        table.add_row(
            worker.worker_id, worker.state, worker.node, str(worker.pid or ""), str(worker.outstanding_tokens)
        )
    console.print(table)
    figures = [f"{name} {status.metrics[name]:.3g}" for name in _SHOWN if name in status.metrics]
    if figures:
        console.print("Last update: " + ", ".join(figures), highlight=False)

"""Work on files in processes that may be killed: decoders crash and hang.

Each process runs `python -m MODULE`, whose main program is `serve(function)`; one JSON line is a job, one
JSON line its result.
"""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.calls import DeadlineError, together, within
from runtime.project import PROJECT_ROOT

_LINE_BYTES = 2**24
_START_S = 120.0
_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one job, or the reason in `failure`."""

    result: Any = None
    failure: str = ""


def run_isolated(
    module: str,
    jobs: Sequence[Any],
    processes: int,
    timeout_s: float,
    progress: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Do all jobs in other processes.

    Args:
        module: its main program serves.
        jobs: values for JSON.
        processes: how many at once.
        timeout_s: deadline of one job. Past it the process is killed and the job has failed. A process that
            dies fails its job, too. The other jobs continue.
        progress: called with the number of jobs done.
    Returns:
        One outcome a job, in their order.
    """
    return asyncio.run(_run(module, jobs, processes, timeout_s, progress or (lambda done: None)))


def serve(function: Callable[[Any], Any]) -> None:
    """The main program of a process: answer jobs until there are no more.

    What `function` raises as a ValueError or an OSError is the job's failure; anything else ends the process.
    """
    # Libraries write to standard output, too: results go to a copy of it, and they to standard error.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps("ready"), file=results, flush=True)
    for line in sys.stdin:
        try:
            answer = {"result": function(json.loads(line))}
        except (ValueError, OSError) as error:
            answer = {"failure": str(error) or type(error).__name__}
        print(json.dumps(answer), file=results, flush=True)


async def _run(
    module: str, jobs: Sequence[Any], processes: int, timeout_s: float, progress: Callable[[int], None]
) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    numbers = iter(range(len(jobs)))

    async def work() -> None:
        process: Process | None = None
        try:
            for number in numbers:
                if process is None:
                    process = await _start(module)
                failure = ""
                try:
                    outcomes[number] = await within(_ask(process, jobs[number]), timeout_s, module)
                except DeadlineError:
                    failure = f"not done within {timeout_s:g} s"
                except (EOFError, ConnectionError):
                    failure = "the process that read it crashed"
                if failure:
                    outcomes[number] = Outcome(failure=failure)
                    await _end(process)
                    process = None
                progress(len(outcomes))
        finally:
            if process is not None:
                await _end(process)

    await together(work() for _ in range(min(processes, len(jobs))))
    return [outcomes[number] for number in range(len(jobs))]


async def _start(module: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        cwd=PROJECT_ROOT,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        limit=_LINE_BYTES,
    )
    ready = False
    try:
        await within(_read(process), _START_S, f"start of {module}")
        ready = True
    except EOFError:
        text = f"`python -m {module}` ends before its first job; run it by hand to see the error"
        raise RuntimeError(text) from None
    finally:
        if not ready:
            await _end(process)
    return process


async def _ask(process: Process, job: Any) -> Outcome:
    assert process.stdin is not None
    process.stdin.write(json.dumps(job).encode() + b"\n")
    await process.stdin.drain()
    return Outcome(**await _read(process))


async def _read(process: Process) -> Any:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


async def _end(process: Process) -> None:
    """Kill a process."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    # A process that waits for a dead file server outlives even SIGKILL: stop waiting for it.
    with contextlib.suppress(DeadlineError):
        await within(_ended(process), _END_S, "end of a process")


async def _ended(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()
    with contextlib.suppress(ConnectionError):
        await process.stdin.wait_closed()

"""Process files in separate processes that can be killed, because decoders may crash or hang.

Each process runs `python -m MODULE`, whose main program calls `serve(function)`. It reads one job per line
from standard input and writes one result per line, both as JSON.
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
    """The result of one job; if it failed, the reason in `failure`."""

    result: Any = None
    failure: str = ""


def run_isolated(
    module: str,
    jobs: Sequence[Any],
    processes: int,
    timeout_s: float,
    progress: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Run all jobs in separate processes.

    A job fails if it exceeds its deadline or its process dies; the other jobs continue.

    Args:
        module: the module to run, whose main program calls `serve`.
        jobs: JSON values.
        processes: maximum number of concurrent processes.
        timeout_s: deadline of one job, after which its process is killed.
        progress: called with the number of jobs done.
    Returns:
        One outcome per job, in the order of `jobs`.
    """
    return asyncio.run(_run(module, jobs, processes, timeout_s, progress or (lambda done: None)))


def serve(function: Callable[[Any], Any]) -> None:
    """Run the main program of a process: call `function` for each job until standard input ends.

    If `function` raises ValueError or OSError, only that job fails. Any other error ends the process.
    """
    # Libraries may print to standard output: duplicate it for the results, then redirect it to stderr.
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
    """Kill a process and wait until it has ended, for at most _END_S."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    # A process blocked on a dead file server survives even SIGKILL: stop waiting for it.
    with contextlib.suppress(DeadlineError):
        await within(_ended(process), _END_S, "end of a process")


async def _ended(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()
    with contextlib.suppress(ConnectionError):
        await process.stdin.wait_closed()

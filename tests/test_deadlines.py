"""No wait without a deadline: the sources are searched for the calls that could wait for ever.

What waits for another process, a file server or a network has a deadline of its own. What waits for a task of
the same event loop ends with that task, and is named below with the deadline that ends it.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_SEARCHED = {"benchmarks", "runs", "setup", "tests"}
SOURCES = sorted(
    path
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")]
    if path.relative_to(ROOT).parts[0] not in NOT_SEARCHED
)

BOUNDING = {"within", "asyncio.wait_for"}
"""Calls that end whatever is awaited inside them."""
NEED_A_TIMEOUT = {
    "ray.get", "ray.wait", "asyncio.wait", "subprocess.run", "subprocess.call", "subprocess.check_call",
    "subprocess.check_output", "urllib.request.urlopen", "socket.create_connection",
    "torch.distributed.init_process_group", "torch.distributed.new_group", "deepspeed.init_distributed",
}  # fmt: skip
"""Functions that wait for ever unless they are given `timeout`. A collective has the deadline of its process
group, so it is the opening of a group that needs one."""
BLOCKING_METHODS = {"acquire", "communicate", "get", "join", "readline", "recv", "wait", "wait_for"}
"""Methods that wait for something to happen. With an argument they have a deadline, or wait for nothing."""

ALLOWED = {
    # The event loop's own tasks: what they wait for has deadlines.
    "cluster/controller_actor.py _await_ref await ref": "the run; its events are asked for with a deadline",
    "cluster/buffer.py CohortBuffer.admit self._changed.wait_for": "ends with the update in progress",
    "cluster/buffer.py CohortBuffer.next_scored self._changed.wait_for": "cancelled by its caller's end",
    "cluster/buffer.py CohortBuffer.take self._changed.wait_for": "ends with sampling and scoring",
    "cli/runs.py _with_stop_signals await task": "the command itself",
    "runtime/concurrently.py concurrently await feeder": "over when its last result is there",
    "runtime/concurrently.py concurrently results.get": "the calls that it is given have deadlines",
    "runtime/concurrently.py concurrently.feed room.acquire": "ends with a call in progress",
    "cluster/checkpoint_writer.py CheckpointWriter.cancel asyncio.wait": "the task is cancelled",
    "cluster/checkpoint_writer.py CheckpointWriter.finish await self._writing": "its calls have deadlines",
    "cluster/early_reference.py EarlyReference._next_scored asyncio.wait": "ends with sampling and scoring",
    "cluster/evaluator.py Evaluator.cancel asyncio.wait": "the task is cancelled",
    "cluster/evaluator.py Evaluator.finish await self._running": "its calls have deadlines",
    "cluster/controller.py Controller._next_cohorts self._stopping.wait": "cancelled with the other",
    "cluster/controller.py Controller._sample_member await decode": "a task around Decoder.decode",
    "cluster/controller.py Controller._train asyncio.wait": "the two loops",
    "monitoring/sinks/dashboards.py DashboardFeed._feed self._calls.get": "cancelled by close",
    "cluster/weight_sync.py NcclSync._in_step asyncio.wait": "each task is a call with a deadline",
    "cluster/run_actors.py RunActors.start await learner": "LearnerGroup.start, whose calls have deadlines",
    "evaluation/scorer.py _run thread.submit(asyncio.run, work).result": "its calls do",
    "runtime/calls.py one_ahead await coming": "the calls that it is given have deadlines",
    "runtime/calls.py one_ahead await ready": "the calls that it is given have deadlines",
    "learner/group.py LearnerGroup._call_each asyncio.wait": "each task is a call with a deadline",
    "rollout/membership.py Roster._heal await launch": "Roster._launch, whose calls have deadlines",
    "rollout/starting.py enough_of asyncio.wait": "each task is Roster._launch, whose calls have deadlines",
    "rollout/router.py Router.acquire await future": "RolloutFleet._acquire has the deadline",
    # Inside an actor or a process whose caller has the deadline, and kills it.
    "monitoring/frame_sheets.py FrameReader._render self._connection.recv": "after a poll with a deadline",
    "monitoring/frame_sheets.py _serve connection.recv": "ends with the parent, which closes the pipe",
    "runtime/killable.py _ended process.wait": "called within a deadline",
    "runtime/killable.py _read process.stdout.readline": "called within a deadline",
    "cluster/planning/engines.py TokenEngine.serve asyncio.wait": "simulated: a timer ends every answer",
    "cluster/planning/engines.py TokenEngine.serve event.wait": "simulated: a timer ends every answer",
    "cluster/planning/engines.py TokenEngine.serve self.died.wait": "cancelled with the answers' end",
    "cluster/planning/simulated_workers.py SimulatedWorkers._end_eval await self._evaluation": "simulated",
    "cluster/planning/simulated_workers.py SimulatedWorkers.close await self._evaluation": "simulated",
    "learner/zero.py join_process_group deepspeed.init_distributed": "takes over the group opened before",
    "rollout/adapters.py AdapterSlots.one_idle adapter.idle.wait": "the fleet's call has a deadline",
    "rollout/adapters.py AdapterSlots.one_idle asyncio.wait": "the fleet's call has a deadline",
    "rollout/drain_gate.py DrainGate.drained self._empty.wait": "the fleet's call has a deadline",
    "rollout/drain_gate.py DrainGate.opened self._open.wait": "the fleet's call has a deadline",
    "rollout/engine_in_process.py InProcessEngine._ask await call.future": "the fleet's call has a deadline",
    "rollout/engine_in_process.py InProcessEngine._complete await batch.future": "the fleet's call does",
    "rollout/engine_in_process.py InProcessEngine._next_commands self._commands.get": "an idle engine",
    "rollout/engine_in_process.py InProcessEngine.close self._thread.join": "the fleet's call has a deadline",
    "rollout/worker.py RolloutWorker._exit_if_dead await call": "the fleet's call has a deadline",
}
"""Waits that something else ends: `FILE SCOPE CALL`, and what ends them."""


@dataclass(frozen=True)
class Wait:
    """A call that may wait for ever."""

    scope: str
    call: str
    line: int


def waits(source: str) -> Iterator[Wait]:
    """The calls of a module that could wait without an end."""
    yield from _search(ast.parse(source), "", bounded=False)


def _search(node: ast.AST, scope: str, bounded: bool) -> Iterator[Wait]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        scope, bounded = f"{scope}.{node.name}".lstrip("."), False
    elif isinstance(node, ast.AsyncWith):
        bounded |= any(ast.unparse(item.context_expr).startswith("asyncio.timeout(") for item in node.items)
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name == "asyncio.to_thread":  # the call that the thread makes
            node = ast.copy_location(ast.Call(node.args[0], node.args[1:], node.keywords), node)
            name = ast.unparse(node.func)
        if not bounded and _may_hang(node, name):
            yield Wait(scope, name, node.lineno)
        bounded |= name in BOUNDING
    elif isinstance(node, ast.Await) and not bounded:
        awaited = node.value
        if not isinstance(awaited, ast.Call):
            yield Wait(scope, f"await {ast.unparse(awaited)}", node.lineno)
        elif ast.unparse(awaited.func).endswith(".remote"):
            yield Wait(scope, f"await {ast.unparse(awaited.func)}", node.lineno)
    for child in ast.iter_child_nodes(node):
        yield from _search(child, scope, bounded)


def _may_hang(call: ast.Call, name: str) -> bool:
    given = {keyword.arg for keyword in call.keywords}
    if given & {"timeout", "timeout_s"}:
        return False
    if name in NEED_A_TIMEOUT:
        return name != "socket.create_connection" or len(call.args) < 2
    if name == "asyncio.wait_for" or not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr == "result":  # of a thread's future; a task's is there, or raises
        return isinstance(call.func.value, ast.Call) and not call.args
    if call.func.attr == "wait_for":  # a condition's takes what it waits for
        return len(call.args) == 1
    return call.func.attr in BLOCKING_METHODS and not call.args and not given


def project_waits() -> dict[str, list[int]]:
    """`FILE SCOPE CALL` to the lines, of all sources."""
    found: dict[str, list[int]] = {}
    for file in SOURCES:
        for wait in waits(file.read_text()):
            key = f"{file.relative_to(ROOT)} {wait.scope} {wait.call}"
            found.setdefault(key, []).append(wait.line)
    return found


def test_nothing_waits_without_a_deadline() -> None:
    found = project_waits()
    unknown = {wait: lines for wait, lines in found.items() if wait not in ALLOWED}
    assert unknown == {}, "give the call a deadline (runtime.calls.within), or say above what ends it"


def test_the_exceptions_are_still_there() -> None:
    assert set(ALLOWED) <= set(project_waits())


@pytest.mark.parametrize(
    "code",
    [
        "ray.get(ref)",
        "ray.wait([ref])",
        "ray.get(actor.work.remote())",
        "await actor.work.remote()",
        "await ref",
        "await asyncio.gather(within(a, 1, 'a')) and await ref",
        "await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)",
        "thread.join()",
        "await asyncio.to_thread(thread.join)",
        "queue.get()",
        "connection.recv()",
        "lock.acquire()",
        "condition.wait_for(lambda: ready)",
        "process.communicate()",
        "pool.submit(work).result()",
        "subprocess.run(['ray', 'status'])",
        "urllib.request.urlopen(url)",
        "deepspeed.init_distributed(dist_backend='gloo')",
        "torch.distributed.new_group([0, 1])",
    ],
)
def test_a_wait_without_a_deadline_is_found(code: str) -> None:
    assert list(waits(f"async def f():\n    {code}\n"))


@pytest.mark.parametrize(
    "code",
    [
        "ray.get(ref, timeout=5)",
        "await within(actor.work.remote(), 5, 'actor.work')",
        "await within(ref, 5, 'ref')",
        "await asyncio.wait_for(event.wait(), 5)",
        "await asyncio.wait(tasks, timeout=5)",
        "', '.join(words)",
        "settings.get('name')",
        "thread.join(5)",
        "await asyncio.to_thread(thread.join, 5)",
        "socket.create_connection(address, 5)",
        "task.result()",
        "pool.submit(work).result(5)",
        "condition.wait_for(lambda: ready, 5)",
        "deepspeed.init_distributed(dist_backend='gloo', timeout=limit)",
        "await fleet.sample(requests)",
    ],
)
def test_a_wait_with_a_deadline_is_let_pass(code: str) -> None:
    assert not list(waits(f"async def f():\n    {code}\n"))


def test_a_deadline_ends_with_its_block() -> None:
    inside = "async def f():\n    async with asyncio.timeout(5):\n        await ref\n"
    assert not list(waits(inside))
    assert [w.line for w in waits(inside + "    await ref\n")] == [4]

"""Checkpoints of a ZeRO-3 engine without pickle: safetensors shards and a JSON index.

Each of N ranks holds 1/N of every flattened parameter: the master copy and AdamW's two moments. Each rank
writes its own shard, so a checkpoint of any size is written in parallel and never gathered. The index records
the number of ranks and the size of each parameter. Ranks of another world size read the slices that make up
their parts. Frozen parameters are not saved, because the model folder that the run started from has them.
With LoRA the whole model is frozen, and the checkpoint holds only the adapters.

    folder/checkpoint.json
    folder/rank-0-of-2.safetensors   fp32/NAME, exp_avg/NAME, exp_avg_sq/NAME
    folder/rank-1-of-2.safetensors
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from data.errors import PermanentError
from learner.host_copy import HostCopy
from learner.lora import adapter_scale, save_adapter
from learner.weights import gather_adapter, gather_buckets, hf_name

ADAPTER_FOLDER = "adapter"
WEIGHTS_INDEX = "model.safetensors.index.json"

INDEX = "checkpoint.json"
FORMAT = 1
MASTER = "fp32"
MOMENTS = ("exp_avg", "exp_avg_sq")
_DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
"""safetensors' names of the dtypes that a rank can hold."""


class CheckpointError(PermanentError, ValueError):
    """A checkpoint is missing, is broken, is of another model or cannot be written. The message names the
    file and the fix."""


def save_checkpoint(engine: Any, folder: Path, extra: dict[str, Any]) -> None:
    """Write the engine's state as a checkpoint. All ranks must call it. `folder` is created atomically.

    Args:
        folder: path on storage that all ranks share; an existing folder is replaced.
        extra: any JSON value; `load_checkpoint` returns it.
    """
    rank = torch.distributed.get_rank()
    if rank == 0:
        begin_checkpoint(folder)
    torch.distributed.barrier()
    write_shard(_local_states(engine), folder, rank, torch.distributed.get_world_size())
    torch.distributed.barrier()
    if rank == 0:
        finish_checkpoint(folder, _index(engine), extra)
    torch.distributed.barrier()


class Snapshot:
    """A copy of one rank's shard in host memory, which can be written while the engine computes.

    It uses 12 bytes per trainable parameter of the rank, as the shard does, and keeps that memory for later
    snapshots.
    """

    def __init__(self) -> None:
        self.copy = HostCopy()
        self.index: dict[str, Any] = {}

    def take(self, engine: Any) -> None:
        """Copy the engine's state to host memory, without a collective."""
        self.copy.take(_local_states(engine).items())
        self.index = _index(engine)


def begin_checkpoint(folder: Path) -> None:
    """Create an empty folder for the shards. One rank calls it before any rank writes its shard."""
    partial = _partial(folder)
    with _writing(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)


def write_shard(shard: Mapping[str, Tensor] | HostCopy, folder: Path, rank: int, ranks: int) -> None:
    """Write one rank's shard, and return once it is on disk."""
    path = _partial(folder) / _shard_name(rank, ranks)
    with _writing(path):
        write_tensors(shard, path)
        _sync(path)


def finish_checkpoint(folder: Path, index: dict[str, Any], extra: dict[str, Any]) -> None:
    """Write the index and rename the finished checkpoint to `folder`. One rank calls it after all ranks have
    written their shards."""
    partial = _partial(folder)
    with _writing(folder):
        (partial / INDEX).write_text(json.dumps(index | {"extra": extra}))
        _sync(partial / INDEX)
        _sync(partial)
        _replace_folder(partial, folder)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise CheckpointError if the storage fails. It is not retried, because the storage would fail again."""
    try:
        yield
    except OSError as error:
        reason = f"{type(error).__name__}: {error.strerror or error}"
        raise CheckpointError(
            f"{path} cannot be written ({reason}): fix that, then resume the run"
        ) from error


def _index(engine: Any) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "ranks": torch.distributed.get_world_size(),
        "optimizer_step": _optimizer_step(engine),
        "sizes": {name: int(p.ds_numel) for name, p in _trainable(engine.module)},
        "adapter_scale": adapter_scale(engine.module),
    }


def _local_states(engine: Any) -> dict[str, Tensor]:
    """Return this rank's part of the master weights and moments, by the keys of the shard (such as
    fp32/NAME)."""
    return {
        f"{part}/{name}": tensor.detach()
        for name, parameter in _trainable(engine.module)
        for part, tensor in _local_state(engine, parameter).items()
    }


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def write_tensors(tensors: Mapping[str, Tensor] | HostCopy, path: Path) -> None:
    """Write a safetensors file while holding only one tensor at a time in host memory.

    The writer of safetensors needs all tensors in memory: 12 bytes per parameter in total over the ranks,
    which is 95 GB for an 8B model.
    """
    if isinstance(tensors, HostCopy):
        layout, named = tensors.layout(), tensors.tensors(torch.device("cpu"))
    else:
        layout = [(name, tensor.dtype, tensor.shape) for name, tensor in tensors.items()]
        named = iter(tensors.items())
    header: dict[str, Any] = {}
    offset = 0
    for name, dtype, shape in layout:
        end = offset + shape.numel() * dtype.itemsize
        header[name] = {"dtype": _DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in named:
            tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tofile(file)


def load_checkpoint(engine: Any, folder: Path) -> dict[str, Any]:
    """Load a checkpoint into the engine and return its `extra`. All ranks must call it.

    With the number of ranks that wrote it, training continues bit-identically.

    Raises:
        CheckpointError: if the checkpoint is missing, is broken or is of another model.
    """
    index = read_index(folder)
    sizes = {name: int(p.ds_numel) for name, p in _trainable(engine.module)}
    if index["sizes"] != sizes:
        odd = sorted(n for n in sizes.keys() | index["sizes"].keys() if sizes.get(n) != index["sizes"].get(n))
        raise CheckpointError(
            f"{folder}: its trainable parameters are not this model's ({odd[0]} and {len(odd) - 1} more "
            "differ); resume with the model, learner.train_vision and learner.lora of the run that wrote it"
        )
    scale = adapter_scale(engine.module)
    if index.get("adapter_scale") != scale:
        raise CheckpointError(
            f"{folder}: its adapters are scaled by {index.get('adapter_scale')}, this model's by {scale}; "
            "resume with the learner.lora.alpha of the run that wrote it"
        )
    rank = torch.distributed.get_rank()
    optimizer = engine.optimizer
    optimizer._partition_all_parameters()
    inner = optimizer.optimizer
    step = index["optimizer_step"]
    with _Shards(folder, index["ranks"]) as shards:
        for flat in optimizer.fp32_partitioned_groups_flat:
            # AdamW creates its state at its first step, so a fresh engine has no state to copy into.
            inner.state[flat] = {"step": torch.tensor(float(step or 0))} if step is not None else {}
            if step is not None:
                inner.state[flat].update({m: torch.zeros_like(flat) for m in MOMENTS})
        for name, parameter in _trainable(engine.module):
            mine = parameter.ds_tensor.numel()
            for part in (MASTER, *MOMENTS) if step is not None else (MASTER,):
                values = shards.read(f"{part}/{name}", rank * mine, mine, sizes[name])
                _write_local(parameter, part, values)
    if optimizer.persistent_parameters:
        # Small parameters stay gathered between updates, so their gathered copies must be renewed here.
        optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)
    torch.distributed.barrier()
    return dict(index["extra"])


def read_index(folder: Path) -> dict[str, Any]:
    """Read the checkpoint's index, and check that every shard exists."""
    try:
        index = json.loads((folder / INDEX).read_text())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder / INDEX} is missing: {folder} holds no checkpoint of the learner"
        ) from None
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{folder / INDEX} is not valid JSON ({error}); take an older checkpoint"
        ) from None
    if index.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / INDEX}: format {index.get('format')}, this code reads format {FORMAT}"
        )
    missing = [n for n in _shard_names(index["ranks"]) if not (folder / n).is_file()]
    if missing:
        raise CheckpointError(f"{folder}: {', '.join(missing)} is missing; take an older checkpoint")
    return dict(index)


class _Shards:
    """Reads slices of flattened parameters from all shards of a checkpoint."""

    def __init__(self, folder: Path, ranks: int) -> None:
        self._paths = [folder / name for name in _shard_names(ranks)]

    def __enter__(self) -> _Shards:
        self._files = [safe_open(path, framework="pt") for path in self._paths]
        for file in self._files:
            file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.__exit__(*error)

    def read(self, key: str, start: int, count: int, total: int) -> Tensor:
        """Read values [start, start + count) of a parameter of size `total`, as float32; zeros past its
        end."""
        out = torch.zeros(count)
        slices = [file.get_slice(key) for file in self._files]
        per_rank = slices[0].get_shape()[0]
        end = min(start + count, total)
        for writer, part in enumerate(slices):
            first = max(start, writer * per_rank)
            last = min(end, (writer + 1) * per_rank)
            if first < last:
                offset = writer * per_rank
                out[first - start : last - start] = part[first - offset : last - offset].float()
        return out


def _trainable(policy: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((hf_name(n), p) for n, p in policy.named_parameters() if p.requires_grad)


def _local_state(engine: Any, parameter: Any) -> dict[str, Tensor]:
    from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

    state = {MASTER: safe_get_local_fp32_param(parameter)}
    if _optimizer_step(engine) is not None:
        state |= {m: safe_get_local_optimizer_state(parameter, m) for m in MOMENTS}
    return state


def _write_local(parameter: Any, part: str, values: Tensor) -> None:
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    values = values.to(parameter.ds_tensor.device)
    if part != MASTER:
        safe_set_local_optimizer_state(parameter, values, part)
        return
    # The forward pass gathers `ds_tensor`; the optimizer updates the master copy. Both must be set.
    parameter.ds_tensor.data.copy_(values)
    safe_set_local_fp32_param(parameter, values)


def _optimizer_step(engine: Any) -> int | None:
    """Return AdamW's step count; None before its first step, and for an optimizer without moments."""
    state = engine.optimizer.optimizer.state
    steps = {
        int(state[flat]["step"]) for flat in engine.optimizer.fp32_partitioned_groups_flat if state.get(flat)
    }
    return steps.pop() if steps else None


def _shard_name(rank: int, ranks: int) -> str:
    return f"rank-{rank}-of-{ranks}.safetensors"


def _shard_names(ranks: int) -> Sequence[str]:
    return [_shard_name(rank, ranks) for rank in range(ranks)]


def _sync(path: Path) -> None:
    """Call fsync on a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace_folder(source: Path, target: Path) -> None:
    if target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        source.rename(target)
        shutil.rmtree(old)
    else:
        source.rename(target)
    _sync(target.parent)


def export_hf(policy: Any, processor: Any, folder: Path, bucket_bytes: int) -> None:
    """Write a folder that transformers and vLLM can load: weights, configuration, processor and adapter.

    All ranks must call it; rank 0 writes. With LoRA the weights are merged, and `adapter/` holds only the
    adapter.

    Each bucket becomes one file, so at most one bucket of full weights is in memory. `folder` is created
    atomically.
    """
    rank = torch.distributed.get_rank()
    partial = _partial(folder)
    if rank == 0:
        begin_checkpoint(folder)
    placed: dict[str, str] = {}
    total_bytes = 0
    for number, bucket in enumerate(gather_buckets(policy, bucket_bytes), start=1):
        if rank == 0:
            file = f"model-{number:05d}.safetensors"
            tensors = {name: t.cpu().contiguous() for name, t in bucket.items()}
            save_file(tensors, partial / file, metadata={"format": "pt"})
            placed |= dict.fromkeys(tensors, file)
            total_bytes += sum(t.nbytes for t in tensors.values())
    adapter = gather_adapter(policy)
    if rank == 0:
        index = {"metadata": {"total_size": total_bytes}, "weight_map": placed}
        (partial / WEIGHTS_INDEX).write_text(json.dumps(index, indent=2))
        model = policy.model
        model.config.save_pretrained(partial)
        if model.can_generate():
            model.generation_config.save_pretrained(partial)
        processor.save_pretrained(partial)
        if adapter:
            save_adapter(model, adapter, partial / ADAPTER_FOLDER)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    torch.distributed.barrier()

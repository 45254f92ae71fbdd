"""A trained policy as a Hugging Face folder that transformers and vLLM load.

With LoRA the weights in it are the merged ones, and `adapter/` beside them holds the adapter alone, as peft
writes it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from learner.lora import save_adapter
from learner.weights import gather_adapter, gather_buckets

ADAPTER_FOLDER = "adapter"
WEIGHTS_INDEX = "model.safetensors.index.json"


def export_hf(policy: Any, processor: Any, folder: Path, bucket_bytes: int) -> None:
    """Write weights, configuration, processor and adapter; all ranks call it, rank 0 writes.

    One file a bucket, so that no more than a bucket is ever whole in memory. `folder` appears whole or not at
    all.
    """
    rank = torch.distributed.get_rank()
    partial = folder.with_name(f".{folder.name}.partial")
    if rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
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

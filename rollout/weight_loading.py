"""New weights into a live engine: the half that runs inside vLLM's worker processes.

`WeightLoading` is mixed into vLLM's worker class (`worker_extension_cls`) and called through
`collective_rpc`. The calls of one load are: begin, any number of buckets, finish.

`model.load_weights` alone is not enough on a live engine, whose weights have been repacked for the kernels;
vLLM's layerwise reload gives each layer its loadable form back, collects a layer's tensors until they are
complete, and repacks them.
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

# (name, numpy dtype, shape) of each tensor, in the order of their bytes.
Layout = list[tuple[str, str, list[int]]]


def pack(bucket: Mapping[str, np.ndarray]) -> tuple[Layout, bytes]:
    """A bucket as plain bytes, for an engine in another process."""
    arrays = {name: np.ascontiguousarray(array) for name, array in bucket.items()}
    layout: Layout = [(name, array.dtype.str, list(array.shape)) for name, array in arrays.items()]
    return layout, b"".join(array.tobytes() for array in arrays.values())


def unpack(layout: Layout, payload: bytes) -> dict[str, np.ndarray]:
    """The inverse of `pack`; the arrays are read-only views of `payload`."""
    bucket, offset = {}, 0
    for name, dtype, shape in layout:
        count = math.prod(shape)
        bucket[name] = np.frombuffer(payload, np.dtype(dtype), count, offset).reshape(shape)
        offset += bucket[name].nbytes
    return bucket


class WeightLoading:
    """Methods of vLLM's worker for loading weights by their Hugging Face names."""

    model_runner: Any
    model_config: Any
    vllm_config: Any
    _loaded: set[str]

    def begin_weight_load(self) -> None:
        """From here until `finish_weight_load` the model cannot be used."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        self._loaded = set()
        with set_current_vllm_config(self.vllm_config):
            initialize_layerwise_reload(self.model_runner.get_model())

    def load_weight_bucket(self, bucket: Mapping[str, np.ndarray]) -> None:
        """Take in some of the tensors; a layer is loaded once all of its tensors have come."""
        self._load(_tensors(bucket))

    def load_packed_bucket(self, layout: Layout, payload: bytes) -> None:
        """`load_weight_bucket` of a bucket that came through `pack`."""
        self._load(_tensors(unpack(layout, payload)))

    def finish_weight_load(self) -> list[str]:
        """Make the model usable again; returns the parameters that no bucket held, which must be none."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        model = self.model_runner.get_model()  # `model` may be a wrapper around CUDA graphs
        with set_current_vllm_config(self.vllm_config):
            finalize_layerwise_reload(model, self.model_config)
        return sorted({name for name, _ in model.named_parameters()} - self._loaded)

    def _load(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        from vllm.config import set_current_vllm_config

        with set_current_vllm_config(self.vllm_config):
            self._loaded |= self.model_runner.get_model().load_weights(tensors)


def _tensors(bucket: Mapping[str, np.ndarray]) -> list[tuple[str, torch.Tensor]]:
    """Tensors over the same memory. vLLM copies out of them and never writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return [(name, torch.as_tensor(array)) for name, array in bucket.items()]

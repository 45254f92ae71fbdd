"""Loads new weights into a running engine: the part that runs inside vLLM's worker processes.

`WeightLoading` is mixed into vLLM's worker class (`worker_extension_cls`) and called through
`collective_rpc`. One load consists of these calls: begin, any number of buckets, finish.

`model.load_weights` alone does not work on a running engine, because its weights have been repacked for the
kernels. vLLM's layerwise reload restores each layer's loadable form, collects the layer's tensors until they
are complete, and repacks them.
"""

from collections.abc import Iterable
from typing import Any

import torch

from data.tensor_bytes import Bucket, Layout, tensors_of, unpack


class WeightLoading:
    """Methods added to vLLM's worker that load weights by their Hugging Face names."""

    model_runner: Any
    model_config: Any
    vllm_config: Any
    _loaded: set[str]

    def begin_weight_load(self) -> None:
        """Prepare the model for new weights. It is unusable until `finish_weight_load`."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        self._loaded = set()
        with set_current_vllm_config(self.vllm_config):
            initialize_layerwise_reload(self.model_runner.get_model())

    def load_weight_bucket(self, bucket: Bucket) -> None:
        """Load some of the tensors. A layer is loaded once all of its tensors have arrived."""
        self._load(tensors_of(bucket))

    def load_packed_bucket(self, layout: Layout, payload: bytes) -> None:
        """Load a bucket that was serialized with `pack`, as `load_weight_bucket` does."""
        self._load(tensors_of(unpack(layout, payload)))

    def finish_weight_load(self) -> list[str]:
        """Make the model usable again; returns the parameters missing from all buckets, which must be
        none."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        model = self.model_runner.get_model()  # `model` may be a wrapper around CUDA graphs
        with set_current_vllm_config(self.vllm_config):
            finalize_layerwise_reload(model, self.model_config)
            _repack_output_projection(model)
        return sorted({name for name, _ in model.named_parameters()} - self._loaded)

    def unknown_adapter_names(self, names: list[str]) -> list[str]:
        """Return the names of adapter tensors that match no layer with adapter support.

        vLLM itself checks only the last part of a name, and ignores unmatched tensors without an error.
        """
        from vllm.lora.utils import parse_fine_tuned_lora_name

        manager = self.model_runner.lora_manager._adapter_manager
        mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
        renames = mapper.get_rename_mapper() if mapper is not None else None
        packed = manager.packed_modules
        served = {part for module in manager.modules for part in packed.get(module, [module])}
        return [name for name in names if parse_fine_tuned_lora_name(name, renames)[0] not in served]

    def _load(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        from vllm.config import set_current_vllm_config

        with set_current_vllm_config(self.vllm_config):
            self._loaded |= self.model_runner.get_model().load_weights(tensors)


def _repack_output_projection(model: torch.nn.Module) -> None:
    """Update the packed copy of the output projection that vLLM's CPU backend computes with.

    An output projection tied to the embeddings has no tensor of its own, so the reload does not update the
    packed copy. On GPUs there is no copy, and this has no effect.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for layer in model.modules():
        if isinstance(layer, ParallelLMHead):
            layer.quant_method.process_weights_after_loading(layer)

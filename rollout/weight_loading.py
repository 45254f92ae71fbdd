"""New weights into a live engine: the half that runs inside vLLM's worker processes.

`WeightLoading` is mixed into vLLM's worker class (`worker_extension_cls`) and called through
`collective_rpc`. The calls of one load are: begin, any number of buckets, finish.

`model.load_weights` alone is not enough on a live engine, whose weights have been repacked for the kernels;
vLLM's layerwise reload gives each layer its loadable form back, collects a layer's tensors until they are
complete, and repacks them.
"""

from collections.abc import Iterable
from typing import Any

import torch

from data.tensor_bytes import Bucket, Layout, tensors_of, unpack


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

    def load_weight_bucket(self, bucket: Bucket) -> None:
        """Take in some of the tensors; a layer is loaded once all of its tensors have come."""
        self._load(tensors_of(bucket))

    def load_packed_bucket(self, layout: Layout, payload: bytes) -> None:
        """`load_weight_bucket` of a bucket that came through `pack`."""
        self._load(tensors_of(unpack(layout, payload)))

    def finish_weight_load(self) -> list[str]:
        """Make the model usable again; returns the parameters that no bucket held, which must be none."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        model = self.model_runner.get_model()  # `model` may be a wrapper around CUDA graphs
        with set_current_vllm_config(self.vllm_config):
            finalize_layerwise_reload(model, self.model_config)
            _repack_output_projection(model)
        return sorted({name for name, _ in model.named_parameters()} - self._loaded)

    def unknown_adapter_names(self, names: list[str]) -> list[str]:
        """Those names of an adapter's tensors that are of no layer with room for an adapter.

        vLLM looks at the last part of a name only, and leaves out what matches no layer without a word.
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
    """Bring the packed copy of the output projection up to date, which vLLM's CPU backend computes with.

    A projection that is tied to the embeddings has no tensor of its own to load, so that the reload leaves
    its copy as it was. On GPUs there is no copy and this does nothing.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for layer in model.modules():
        if isinstance(layer, ParallelLMHead):
            layer.quant_method.process_weights_after_loading(layer)

"""A logits processor for vLLM that keeps forbidden tokens out of completions. Runs inside vLLM's processes.

vLLM has two model runners: V1 on the CPU, V2 on GPUs (`VllmConfig.use_v2_model_runner`). Each accepts only
subclasses of its own interface. `TokenMask` implements both interfaces, so it works with either.

`SamplingParams.allowed_token_ids` would have the same effect, but every request would carry a list of almost
the whole vocabulary (150,000 ids for Qwen-VL) and need its own mask row.
"""

from typing import Any

import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as LogitsProcessorV1
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as LogitsProcessorV2

CONFIG_KEY = "masked_token_ids"


class TokenMask(LogitsProcessorV1, LogitsProcessorV2):
    """Sets the logits of `additional_config["masked_token_ids"]` to -inf, in greedy decoding too."""

    def __init__(
        self,
        vllm_config: Any,
        where: torch.device | LogitsProcRequestState,
        is_pin_memory: bool = False,
    ) -> None:
        """Args: where: the device (V1), or the runner's LogitsProcRequestState, which has the device (V2)."""
        device = where.device if isinstance(where, LogitsProcRequestState) else where
        ids = vllm_config.additional_config[CONFIG_KEY]
        self._masked = torch.tensor(ids, dtype=torch.long, device=device)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Accept all requests: the mask has no per-request parameters."""

    def apply(self, logits: torch.Tensor, ctx: LogitsContext | None = None) -> torch.Tensor:
        """Mask `logits` [sequences, vocabulary] in place."""
        return logits.index_fill_(-1, self._masked, -torch.inf)

    def is_argmax_invariant(self) -> bool:
        """V1: return False, because the mask also changes the result of greedy decoding."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """V1: do nothing, because the mask is the same for every sequence."""

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """V2: return True, because every request is masked, greedy requests included."""
        return True

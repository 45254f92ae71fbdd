"""The tokens that no completion may hold, as a part of vLLM's sampler. Runs inside vLLM's processes.

vLLM has two model runners, each of which accepts only subclasses of its own interface: V1 on the CPU, V2 on
GPUs (`VllmConfig.use_v2_model_runner`). `TokenMask` implements both, so it is right whichever vLLM picks.

`SamplingParams.allowed_token_ids` would say the same, at the price of a list of the whole vocabulary with
every request (150,000 ids for Qwen-VL) and a mask row of its own.
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
        """Args: where: the device (V1), or the runner's state of requests, which names it (V2)."""
        device = where.device if isinstance(where, LogitsProcRequestState) else where
        ids = vllm_config.additional_config[CONFIG_KEY]
        self._masked = torch.tensor(ids, dtype=torch.long, device=device)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Accept all: requests have no parameters for the mask."""

    def apply(self, logits: torch.Tensor, ctx: LogitsContext | None = None) -> torch.Tensor:
        """Mask `logits` [sequences, vocabulary] in place."""
        return logits.index_fill_(-1, self._masked, -torch.inf)

    def is_argmax_invariant(self) -> bool:
        """V1: greedy decoding needs the mask too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """V1: the mask is the same for every sequence."""

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """V2: every request is masked, greedy ones too."""
        return True

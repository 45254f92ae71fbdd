"""The token mask in both of vLLM's model runners: V1 (CPU) and V2 (GPUs), through vLLM's own loaders."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

NAME = "rollout.token_mask:TokenMask"
MASKED = [0, 5, 7]
VLLM_CONFIG: Any = SimpleNamespace(
    additional_config={"masked_token_ids": MASKED},
    speculative_config=None,
    scheduler_config=SimpleNamespace(max_num_seqs=4),
    reasoning_config=None,
)


def logits() -> torch.Tensor:
    """Of three rows and eight tokens; a masked one is the likeliest of each."""
    made = torch.arange(24.0).reshape(3, 8)
    made[:, 5] = 100.0
    return made


class V1LogitsProcessorAlone:
    """What V1 accepts and V2 does not."""

    @staticmethod
    def make() -> type:
        from vllm.v1.sample.logits_processor import LogitsProcessor

        return type("OnlyV1", (LogitsProcessor,), {})


def test_v2_accepts_the_mask_and_no_processor_of_v1() -> None:
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors_params_validator

    build_custom_logits_processors_params_validator([NAME])(SamplingParams(temperature=0))
    with pytest.raises(ValueError, match="OnlyV1 is not a subclass of"):
        build_custom_logits_processors_params_validator([V1LogitsProcessorAlone.make()])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_v2_never_samples_what_is_masked(temperature: float) -> None:
    """Through the steps of V2's sampler up to the draw: masked logits are -inf, greedily too."""
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors
    from vllm.v1.worker.gpu.sample.sampler import Sampler

    cpu = torch.device("cpu")
    requests: Any = SimpleNamespace(
        device=cpu, max_num_reqs=4, vocab_size=8, all_token_ids=None, prompt_len=None, prefill_len=None,
        total_len=None,
    )  # fmt: skip
    (mask,) = build_custom_logits_processors(VLLM_CONFIG, requests, False, [NAME])
    nothing: Any = SimpleNamespace(
        add_request=lambda slot, params: False,
        apply=lambda logits, ctx: None,
        apply_temperature=lambda logits, mapping, slots: None,
        apply_min_p=lambda logits, mapping, slots: None,
        trace_replay_state=None,
    )
    sampler: Any = SimpleNamespace(
        sampling_states=nothing, thinking_budget_state=nothing, logprob_token_ids_state=nothing,
        trace_replay_state=None, logits_processors=[mask], needs_logits_processing=np.zeros(4, bool),
    )  # fmt: skip
    for slot in range(3):
        Sampler.add_request(sampler, slot, SamplingParams(temperature=temperature))
    slots, before = torch.arange(3), logits()
    processed = Sampler.apply_sampling_params(
        sampler, before, slots, slots, slots.numpy(), slots, slots, slots, np.ones(3), skip_top_k_top_p=True
    )
    assert torch.isneginf(processed[:, MASKED]).all()
    kept = [i for i in range(8) if i not in MASKED]
    assert torch.equal(processed[:, kept], before[:, kept])
    assert processed.argmax(-1).tolist() == [6, 6, 6]


def test_v1_applies_the_mask_to_greedy_requests_too() -> None:
    from vllm.v1.sample.logits_processor import build_logitsprocs

    built = build_logitsprocs(VLLM_CONFIG, torch.device("cpu"), False, False, [NAME])
    (mask,) = [p for p in built.non_argmax_invariant if type(p).__name__ == "TokenMask"]
    assert torch.isneginf(mask.apply(logits())[:, MASKED]).all()

"""The sending side of the NCCL transfer, around vLLM's own functions, with CUDA's streams faked."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from learner.group_attention import select_attention_kernels
from learner.weight_transfer import NcclSender

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


class FakeCuda:
    """The current stream of one thread, and vLLM's way to ask for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import vllm.platforms
        from vllm.utils import torch_utils

        self.current: Any = SimpleNamespace(name="the learner's")
        self.vllm = torch_utils
        monkeypatch.setattr(torch_utils, "prev_set_stream", self._set)
        monkeypatch.setattr(torch_utils, "_current_stream_tls", SimpleNamespace())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(wait_stream=lambda stream: None))
        platform = SimpleNamespace(is_rocm=lambda: False, is_cuda=lambda: True)
        monkeypatch.setattr(vllm.platforms, "_current_platform", platform)

    def _set(self, stream: Any) -> None:
        self.current = stream


def test_the_learner_stays_on_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's communicator asks for the current stream as it opens a group and at every broadcast."""
    from vllm.distributed.weight_transfer import nccl_common, packed_tensor

    cuda = FakeCuda(monkeypatch)
    own, seen = cuda.current, []
    group = SimpleNamespace(destroy=lambda: None)
    communicate = lambda **_: seen.append(cuda.vllm.current_stream())  # noqa: E731
    monkeypatch.setattr(nccl_common, "trainer_init", lambda info: communicate() or group)
    monkeypatch.setattr(packed_tensor, "packed_nccl_broadcast_producer", communicate)
    sender = NcclSender(2**20)
    for _ in range(2):
        sender.join("127.0.0.1", 1234, 2)
        sender.send(iter([]))
    assert seen == [own] * 4
    assert cuda.current is own


def test_every_rank_may_use_the_same_attention_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a process imported before: vLLM's CUDA platform switches one kernel off."""
    from vllm.distributed.weight_transfer import nccl_common

    def kernels() -> tuple[bool, ...]:
        allowed = torch.backends.cuda
        return (
            allowed.flash_sdp_enabled(),
            allowed.mem_efficient_sdp_enabled(),
            allowed.math_sdp_enabled(),
            allowed.cudnn_sdp_enabled(),
        )

    FakeCuda(monkeypatch)
    before = kernels()
    try:
        select_attention_kernels()
        others = kernels()
        torch.backends.cuda.enable_cudnn_sdp(True)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        monkeypatch.setattr(nccl_common, "trainer_init", lambda info: None)
        NcclSender(2**20).join("127.0.0.1", 1234, 2)
        assert kernels() == others == (True, True, True, False)
    finally:
        for switch, on in zip(("flash", "mem_efficient", "math", "cudnn"), before, strict=True):
            getattr(torch.backends.cuda, f"enable_{switch}_sdp")(on)

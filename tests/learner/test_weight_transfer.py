"""The sending side of the NCCL transfer, around vLLM's own functions, with CUDA's streams faked."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.group_attention import select_attention_kernels
from learner.host_copy import HostCopy
from learner.weight_transfer import NcclSender

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.uint8]


@given(
    models=st.lists(
        st.lists(
            st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)),
            max_size=8,
        ),
        min_size=1,
        max_size=3,
    ),
    chunk_bytes=st.integers(1, 64),
)
def test_weights_come_out_of_host_memory_as_they_went_in(
    models: list[list[tuple[torch.dtype, list[int]]]], chunk_bytes: int
) -> None:
    """Whatever their sizes are, cut over chunks or not, and in memory that held other weights before."""
    host = HostCopy(chunk_bytes)
    for seed, shapes in enumerate(models):
        torch.manual_seed(seed)
        weights = [
            (str(number), torch.randint(0, 200, shape).to(dtype))
            for number, (dtype, shape) in enumerate(shapes)
        ]
        host.take((name, tensor.clone()) for name, tensor in weights)
        taken = list(host.tensors(torch.device("cpu")))
        assert [name for name, _ in taken] == [name for name, _ in weights]
        for (_, tensor), (_, expected) in zip(taken, weights, strict=True):
            assert tensor.dtype == expected.dtype
            assert torch.equal(tensor, expected)


def test_the_memory_of_a_copy_is_used_for_the_next_and_no_tensor_shares_it() -> None:
    host = HostCopy(chunk_bytes=16)
    host.take([("a", torch.ones(5))])
    ((_, first),) = host.tensors(torch.device("cpu"))
    pointers = [chunk.data_ptr() for chunk in host._chunks]
    assert len(pointers) == 2
    host.take([("a", torch.zeros(5))])
    assert [chunk.data_ptr() for chunk in host._chunks] == pointers
    assert torch.equal(first, torch.ones(5))


def test_a_copy_that_fails_leaves_no_mixture_to_send() -> None:
    def broken() -> Iterator[tuple[str, torch.Tensor]]:
        yield "a", torch.zeros(5)
        raise RuntimeError("a rank died")

    host = HostCopy()
    host.take([("a", torch.ones(5)), ("b", torch.ones(5))])
    with pytest.raises(RuntimeError, match="a rank died"):
        host.take(broken())
    assert list(host.tensors(torch.device("cpu"))) == []


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

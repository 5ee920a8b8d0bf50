"""A dancer's networks as a processor with bf16 runs them fastest: by OpenVINO, a graph for every size."""

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

log = logging.getLogger("dancedist")
# Windows and groups of chunks have several sizes; each takes as much memory as the weights.
GRAPHS = 4
_prepared: WeakKeyDictionary[Bundle, Bundle] = WeakKeyDictionary()
_preparing = threading.Lock()


def prepared(bundle: Bundle) -> Bundle:
    """The same dancer with networks as its recipe's [render] wants them here. Made once for each bundle."""
    if bundle.dancer.recipe.render.precision == "fp32" or bundle.device.type != "cpu":
        return bundle
    if not has_bf16():
        _tell_once()
        return bundle
    with _preparing:
        if bundle not in _prepared:
            face = None if bundle.face is None else _with_net(bundle.face)
            _prepared[bundle] = replace(bundle, generator=_with_net(bundle.generator), face=face)
        return _prepared[bundle]


@cache
def has_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _tell_once() -> None:
    log.warning("warning: this processor has no bf16: the dancer is rendered in fp32, more slowly")


def _with_net(network: Any) -> Any:
    """A copy of a generator, or of a face generator, that shares its weights and runs its `net` by OpenVINO."""
    made = copy(network)
    made._modules = {**network._modules, "net": Bf16Net(network.net)}
    return made


class Bf16Net(nn.Module):
    """`net`, (B, C, H, W) float32 -> float32, with products of bf16 numbers, summed in fp32."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._graphs: OrderedDict[tuple[int, ...], Callable[[Tensor], Tensor]] = OrderedDict()
        # A chunk may be faded in while the next frames are made.
        self._lock = threading.Lock()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """See the class."""
        shape = tuple(x_BCHW.shape)
        with self._lock:
            if shape not in self._graphs:
                self._graphs[shape] = _graph(self.net, x_BCHW)
                if len(self._graphs) > GRAPHS:
                    self._graphs.popitem(last=False)
            self._graphs.move_to_end(shape)
            return self._graphs[shape](x_BCHW)


def _graph(net: nn.Module, like_BCHW: Tensor) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        # Of sizes that become constants: a graph is for one size.
        warnings.simplefilter("ignore")
        model = ov.convert_model(net, example_input=torch.zeros_like(like_BCHW))
    model.reshape(list(like_BCHW.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16",
        # Two processes that pin their threads land on one core.
        "ENABLE_CPU_PINNING": False,
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(x_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(request.infer([x_BCHW.contiguous().numpy()], share_inputs=True)[0])

    return run

"""A network and its optimiser in a DeepSpeed engine, as training.loop asks for it (dancedist/training/engine.py).

ZeRO (Rajbhandari et al., SC 2020): stage 1 shares the optimiser's state out over the ranks, 2 the gradients too, 3 the
weights too. The batch is shared out by the loop, autocast is the loop's; the engine averages gradients and steps.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

if not torch.cuda.is_available():
    # Read when deepspeed is imported; left alone it looks for devices that are not there.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.ops import __compatible_ops__ as _compatible_ops
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from dancedist.training.engine import MakeEngine

# Its own sums over shared memory would be compiled at the first one, for 40 s; gloo's do.
_compatible_ops["deepspeed_shm_comm"] = False
_TAG = "engine"
# DeepSpeed would unpickle whatever a checkpoint holds. torch goes over its head: tensors, and these three of its own.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
torch.serialization.add_safe_globals([LossScaler, ZeroStageEnum, fragment_address])


class DeepSpeedEngine:
    """See dancedist.training.engine.Engine. torch.distributed must be up, with a rank for each process."""

    def __init__(self, module: nn.Module, optimiser: torch.optim.Optimizer, config: dict[str, Any]) -> None:
        self._engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimiser, config=config, dist_init_required=False
        )

    @property
    def module(self) -> nn.Module:
        """See Engine."""
        module: nn.Module = self._engine.module
        return module

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """See Engine."""
        return self._engine(*inputs, **named)

    def backward(self, loss: Tensor) -> None:
        """See Engine."""
        self._engine.backward(loss)

    def step(self, learning_rate: float) -> None:
        """See Engine."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()

    def whole(self) -> AbstractContextManager[None]:
        """See Engine."""
        shared = self._engine.zero_optimization_partition_weights()
        held: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(
            list(self.module.parameters()), enabled=shared
        )
        return held

    def save(self, folder: Path) -> None:
        """See Engine: DeepSpeed's own checkpoint, the network by the first rank."""
        self._engine.save_checkpoint(str(folder), tag=_TAG)

    def load(self, folder: Path) -> None:
        """See Engine. A stage from 1 on needs as many ranks as have saved."""
        self._engine.load_checkpoint(str(folder), tag=_TAG)


def deepspeed_engine(zero_stage: int, pairs_per_rank: int) -> MakeEngine:
    """What makes engines of one ZeRO stage, 0 to 3, for a batch of which each rank has so many pairs."""

    def make(module: nn.Module, optimiser: torch.optim.Optimizer, parts: int, clip_norm: float) -> DeepSpeedEngine:
        # A dict of its own for each engine: DeepSpeed writes into it.
        config = {
            "train_micro_batch_size_per_gpu": pairs_per_rank // parts,
            "gradient_accumulation_steps": parts,
            # Left out, it is 1: DeepSpeed would clip, and learn otherwise than one machine does.
            "gradient_clipping": clip_norm,
            "zero_optimization": {"stage": zero_stage},
            # torch's Adam: DeepSpeed's own would be compiled first.
            "zero_allow_untested_optimizer": True,
        }
        return DeepSpeedEngine(module, optimiser, config)

    return make

"""DeepSpeed implementation of dancedist.training.engine.Engine: a network and its optimiser under ZeRO.

ZeRO (Rajbhandari et al., SC 2020): stage 1 shards the optimiser state over the ranks, 2 also gradients, 3 also weights.
The training loop splits the batch over the ranks and applies autocast; the engine averages gradients and steps.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

if not torch.cuda.is_available():
    # Read when deepspeed is imported. Unset, DeepSpeed probes for accelerators that are absent.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.ops import __compatible_ops__ as _compatible_ops
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

from dancedist.training.engine import MakeEngine

# DeepSpeed would compile its shared-memory all-reduce at first use, which takes 40 s; gloo's is good enough.
_compatible_ops["deepspeed_shm_comm"] = False
_TAG = "engine"
# DeepSpeed would unpickle anything that a checkpoint holds. torch overrides it: tensors and these three classes only.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
torch.serialization.add_safe_globals([LossScaler, ZeroStageEnum, fragment_address])


class DeepSpeedEngine:
    """See dancedist.training.engine.Engine. torch.distributed must be initialised, one rank per process."""

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

    def full_weights(self) -> AbstractContextManager[None]:
        """See Engine."""
        shared = self._engine.zero_optimization_partition_weights()
        gathered: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(
            list(self.module.parameters()), enabled=shared
        )
        return gathered

    def save(self, folder: Path) -> None:
        """See Engine. Writes a DeepSpeed checkpoint; rank 0 writes the network."""
        self._engine.save_checkpoint(str(folder), tag=_TAG)

    def load(self, folder: Path) -> None:
        """See Engine. ZeRO stages 1 to 3 need the world size that saved the checkpoint."""
        self._engine.load_checkpoint(str(folder), tag=_TAG)


def deepspeed_engine(zero_stage: int, pairs_per_rank: int) -> MakeEngine:
    """Return a factory of engines for a ZeRO stage (0 to 3) and a batch of `pairs_per_rank` pairs per rank."""

    def make(
        module: nn.Module, optimiser: torch.optim.Optimizer, micro_batches: int, clip_norm: float
    ) -> DeepSpeedEngine:
        # DeepSpeed modifies the dict, so each engine gets its own.
        config = {
            "train_micro_batch_size_per_gpu": pairs_per_rank // micro_batches,
            "gradient_accumulation_steps": micro_batches,
            # DeepSpeed's default is 1: it would clip, and results would differ from training on one machine.
            "gradient_clipping": clip_norm,
            "zero_optimization": {"stage": zero_stage},
            # torch's Adam is used: DeepSpeed's own would have to be compiled first.
            "zero_allow_untested_optimizer": True,
        }
        return DeepSpeedEngine(module, optimiser, config)

    return make

"""The recipe's later stages, the local enhancer and the face; a training resumes at any step of each."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dancedist.data.pairs import TargetData
from dancedist.errors import TrainingDiverged
from dancedist.recipe.schema import Recipe
from dancedist.recipe.schema import Stage as StageName
from dancedist.training.engine import TorchEngine
from dancedist.training.loop import Trainer
from tests.unit.conftest import SIZE, toy, toy_recipe

BACKGROUND = np.full((2 * SIZE[1], 2 * SIZE[0], 3), 60, np.uint8)
RECIPE = toy_recipe("local", "face", sample_every_steps=100)


@pytest.fixture(scope="module")
def data() -> TargetData:
    return toy(RECIPE)


class Killed(Exception):
    pass


def train(data: TargetData, folder: Path, recipe: Recipe = RECIPE, die_after: int = 0, **options: object) -> Trainer:
    trainer = Trainer(data, recipe, folder, "key", BACKGROUND, **options)  # type: ignore[arg-type]
    remaining = die_after

    def advance(done: int) -> None:
        nonlocal remaining
        remaining -= done == 1
        if die_after and remaining == 0:
            raise Killed

    trainer.run(advance)
    return trainer


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(data: TargetData, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A training of all three stages without interruption."""
    return train(data, tmp_path_factory.mktemp("whole"))


# 8 global steps, 5 local ones, 5 of the face; a checkpoint every 3 steps and at the end of each stage.
@pytest.mark.parametrize("die_after", [4, 8, 9, 12, 14, 17])
def test_a_training_interrupted_in_any_stage_resumes_to_the_same_result(
    data: TargetData, whole: Trainer, tmp_path: Path, die_after: int
) -> None:
    with pytest.raises(Killed):
        train(data, tmp_path / "interrupted", die_after=die_after)
    resumed = train(data, tmp_path / "interrupted")
    assert (whole.folder / "log.jsonl").read_text() == (tmp_path / "interrupted/log.jsonl").read_text()
    assert [row["step"] for row in logged(whole.folder)] == list(range(18))
    for network, weights in whole.final_weights().items():
        assert equal(dict(weights), dict(resumed.final_weights()[network])), network


def test_memory_of_a_finished_stage_is_released_before_the_next_one(
    data: TargetData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[weakref.ref[object]] = []
    alive = []
    start_stage = Trainer._start_stage

    def record_stages(self: Trainer, name: StageName) -> None:
        alive.append(sum(stage() is not None for stage in stages))
        start_stage(self, name)
        stages.extend((weakref.ref(self.stage), weakref.ref(self.state.generator)))

    monkeypatch.setattr(Trainer, "_start_stage", record_stages)
    gc.disable()
    try:
        train(data, tmp_path)
    finally:
        gc.enable()
    assert alive == [0, 0, 0]


def test_save_memory_does_not_change_the_result(data: TargetData, whole: Trainer, tmp_path: Path) -> None:
    training = RECIPE.training.model_copy(update={"save_memory": True})
    saving = train(data, tmp_path / "saving", RECIPE.model_copy(update={"training": training}))
    assert logged(whole.folder) == logged(saving.folder)
    for network, weights in whole.final_weights().items():
        assert equal(dict(weights), dict(saving.final_weights()[network])), network


def test_each_stage_starts_with_the_weights_of_the_one_before(whole: Trainer) -> None:
    trainer = whole
    common = {n: torch.load(whole.folder / f"step_{n:06d}/common.pt", weights_only=True) for n in (8, 13, 18)}
    assert common[8]["main"] is None and common[13]["main"] is None
    learnt = {name.removeprefix("module."): w for name, w in common[13]["ema"].items() if name != "n_averaged"}
    assert equal(common[18]["main"], learnt)
    assert equal(dict(trainer.final_weights()["generator"]), learnt)
    # The local stage trains at twice the size, and continues to train the global generator's weights.
    coarse = {n.removeprefix("module."): w for n, w in common[8]["ema"].items()}
    coarse_weights = {n: w for n, w in learnt.items() if n.startswith("net.coarse.")}
    gaps = [(w - coarse[n.replace("net.coarse.", "net.")]).abs().max() for n, w in coarse_weights.items()]
    assert 0 < max(gaps) < 0.02


def test_the_face_stage_learns_and_does_not_train_the_generator(data: TargetData, tmp_path: Path) -> None:
    face = RECIPE.face.model_copy(update={"max_steps": 40})
    training = RECIPE.training.model_copy(update={"learning_rate": 2e-3})
    trainer = train(data, tmp_path, RECIPE.model_copy(update={"face": face, "training": training}))
    l1 = [row["f_l1"] for row in logged(tmp_path) if "f_l1" in row]
    assert len(l1) == 40
    assert sum(l1[-8:]) < 0.8 * sum(l1[:8])
    assert all(p.grad is None for p in trainer.state.main.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("later", [("local",), ("face",), ("local", "face")])
def test_every_parameter_is_used_and_in_its_optimiser_once(tmp_path: Path, later: tuple[str, ...]) -> None:
    recipe = toy_recipe(*later)
    unused_by_network: dict[str, list[str]] = {}

    class CheckedEngine(TorchEngine):
        def step(self, learning_rate: float) -> None:
            parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
            assert len(parameters) == len({id(p) for p in parameters})
            assert {id(p) for p in parameters} == {id(p) for p in self.module.parameters()}
            unused = [n for n, p in self.module.named_parameters() if p.grad is None]
            unused_by_network.setdefault(type(self.module).__name__, []).extend(unused)
            super().step(learning_rate)

    background = BACKGROUND if "local" in later else BACKGROUND[: SIZE[1], : SIZE[0]]
    Trainer(toy(recipe), recipe, tmp_path, "key", background, engine=CheckedEngine).run()
    assert {"MaskedGenerator", "Discriminator"} | (
        {"FaceGenerator"} if "face" in later else set()
    ) == unused_by_network.keys()
    assert {name for unused in unused_by_network.values() for name in unused} == set()


def test_another_face_recipe_reuses_the_stages_before(data: TargetData, tmp_path: Path) -> None:
    before = train(data, tmp_path).final_weights()["generator"]
    other = RECIPE.model_copy(update={"face": RECIPE.face.model_copy(update={"filters": 6})})
    again = Trainer(data, other, tmp_path, "key", BACKGROUND)
    assert (again.stage_name, again.step) == ("local", 13)
    again.run()
    assert equal(dict(again.final_weights()["generator"]), dict(before))


def test_a_target_without_a_visible_face_has_no_face_stage(data: TargetData, tmp_path: Path) -> None:
    assert data.face_boxes is not None
    trainer = train(replace(data, face_boxes=np.full_like(data.face_boxes, np.nan)), tmp_path)
    assert (trainer.steps, trainer.final_weights().keys()) == (13, {"generator"})


def test_micro_batches_learn_the_same_as_a_whole_batch(data: TargetData, tmp_path: Path) -> None:
    # No windows, so that micro-batches have one size; no rotation, which is drawn per micro-batch.
    whole = toy_recipe("local", "face", rotation_degrees=0.0, batch_pairs=4)
    generator = whole.generator.model_copy(update={"window": False})
    whole = whole.model_copy(update={"generator": generator})
    split = whole.model_copy(update={"training": whole.training.model_copy(update={"accumulate": 2})})
    rows = []
    for name, recipe in (("whole", whole), ("split", split)):
        train(data, tmp_path / name, recipe)
        rows.append(logged(tmp_path / name))
    for a, b in zip(*rows, strict=True):
        assert a == pytest.approx(b, rel=2e-2), a["step"]
    assert rows[0][0] == pytest.approx(rows[1][0], rel=1e-5)


def test_training_in_bf16_channels_last_with_augmentation_resumes_too(data: TargetData, tmp_path: Path) -> None:
    recipe = toy_recipe("local", "face", precision="bf16", channels_last=True, augment=True, sample_every_steps=100)
    train(data, tmp_path / "whole", recipe)
    for die_after in (12, 17):
        with pytest.raises(Killed):
            train(data, tmp_path / f"{die_after}", recipe, die_after=die_after)
        train(data, tmp_path / f"{die_after}", recipe)
        assert logged(tmp_path / f"{die_after}") == logged(tmp_path / "whole")
    plain = toy_recipe("local", "face", precision="bf16", channels_last=True)
    first = [Trainer(data, r, tmp_path / n, "key", BACKGROUND).train_step() for r, n in ((recipe, "a"), (plain, "b"))]
    assert first[0]["g_l1"] == first[1]["g_l1"]
    assert first[0]["d_real"] != first[1]["d_real"]


def test_networks_are_not_compiled_on_a_cpu(data: TargetData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    state = Trainer(data.halved(), toy_recipe(compiled=True), tmp_path, "key", BACKGROUND).state
    assert all(engine.module._compiled_call_impl is None for engine in (state.generator, state.discriminator))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_compiled_networks_learn_the_same(data: TargetData, tmp_path: Path) -> None:
    rows = []
    for compiled in (False, True):
        recipe = toy_recipe(compiled=compiled, max_steps=3, rotation_degrees=0.0)
        # Without windows, because each size would be compiled.
        recipe = recipe.model_copy(update={"generator": recipe.generator.model_copy(update={"window": False})})
        trainer = train(data.halved(), tmp_path / str(compiled), recipe)
        rows.append(logged(tmp_path / str(compiled)))
        assert not any("_orig_mod" in name for w in trainer.final_weights().values() for name in w)
    for a, b in zip(*rows, strict=True):
        assert a == pytest.approx(b, rel=2e-3), a["step"]


def test_long_gradients_are_clipped(data: TargetData, tmp_path: Path) -> None:
    def moved(clip_norm: float) -> float:
        recipe = toy_recipe(clip_norm=clip_norm, rotation_degrees=0.0, betas=(0.0, 0.0))
        trainer = Trainer(data.halved(), recipe, tmp_path / str(clip_norm), "key", BACKGROUND)
        norms = []

        def watch(optimiser: torch.optim.Optimizer, *_: object) -> None:
            grads = [p.grad for group in optimiser.param_groups for p in group["params"]]
            norms.append(float(torch.stack([g.norm() for g in grads if g is not None]).norm()))

        trainer.state.generator.optimiser.register_step_pre_hook(watch)  # type: ignore[attr-defined]
        trainer.train_step()
        return norms[0]

    assert moved(0.0) > 1e-2
    assert moved(1e-2) == pytest.approx(1e-2, rel=1e-3)


def test_a_warm_start_begins_with_another_dancers_weights(data: TargetData, whole: Trainer, tmp_path: Path) -> None:
    theirs = whole.final_weights()
    warm = Trainer(data, RECIPE, tmp_path / "warm", "key", BACKGROUND, initial=theirs)
    own = {n: w for n, w in warm.state.generator.module.state_dict().items() if not n.startswith("net.6")}
    assert len(own) > 4
    assert all(torch.equal(w, theirs["generator"][n.replace("net.", "net.coarse.")]) for n, w in own.items())
    warm.run()
    assert logged(tmp_path / "warm")[0]["g_l1"] != logged(whole.folder)[0]["g_l1"]
    assert whole.steps == warm.steps


def test_losses_that_are_not_finite_stop_the_training(data: TargetData, tmp_path: Path) -> None:
    trainer = Trainer(data, RECIPE, tmp_path, "key", BACKGROUND)
    with torch.no_grad():
        next(iter(trainer.state.generator.module.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="step 0"):
        trainer.run()
    assert not list(tmp_path.glob("step_*"))

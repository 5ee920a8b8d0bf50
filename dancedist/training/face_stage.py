"""The face stage: a face generator learns a residual on the pictures of the finished generator."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.data.crops import pair_views
from dancedist.data.tensors import detail_crops, to_tensor
from dancedist.models.build import build_generator
from dancedist.models.face import (
    add_background_detail,
    build_face_discriminator,
    build_face_generator,
    crop_square,
    face_losses,
)
from dancedist.models.step import discriminator_losses, rollout
from dancedist.training.samples import sample_pairs, write_rows
from dancedist.training.stages import Losses, StageContext, Weights, load_matching, perceptual_loss
from dancedist.training.state import new_state

log = logging.getLogger("dancedist")


class FaceStage:
    """See stages.Stage. `previous` are the finished generator's weights, `initial` another face generator's."""

    def __init__(self, context: StageContext, previous: Weights | None = None, initial: Weights | None = None) -> None:
        self.context, recipe = context, context.recipe
        with torch.random.fork_rng():
            torch.manual_seed(recipe.training.seed)
            generator = build_face_generator(recipe.face).to(context.device)
            discriminator = build_face_discriminator(recipe.face).to(context.device)
        load_matching(generator, initial or {})
        self.state = new_state(generator, discriminator, recipe.training, context.engine)
        main = build_generator(recipe).to(context.device).eval().requires_grad_(False)
        if previous is not None:
            main.load_state_dict(dict(previous))
        self.state.main = self.main = main
        self.perceptual = perceptual_loss(recipe, context.device)
        total = len(context.data.pairs(context.data.split.train))
        if without_face := total - len(context.pairs):
            log.info("training the face on %d of %d pairs: %d show no face", len(context.pairs), total, without_face)

    def micro_batch_losses(self, t: NDArray[np.int64], index: int) -> tuple[Losses, Losses]:
        """See stages.Stage."""
        context, state, recipe = self.context, self.state, self.context.recipe.face
        figure, face, truth = self._crops(context.ranks.shard(t))
        refined = face + state.generator(figure, face)
        fake, real = (context.augmented(torch.cat([figure, y], 1), state.step, index) for y in (refined, truth))
        state.discriminator.module.requires_grad_(False)
        g = face_losses(state.discriminator.module, fake, refined, truth, self.perceptual, recipe.perceptual, recipe.l1)
        state.discriminator.module.requires_grad_(True)
        d = discriminator_losses(state.discriminator, fake.detach(), real)
        return g, {name.replace("d_", "fd_"): value for name, value in d.items()}

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """See stages.Stage. Rows: skeleton, the generator's face, the refined face, truth."""
        t = sample_pairs(self.context.data.face_pairs(self.context.data.split.validation))
        if len(t):
            # One by one: windows of different pairs differ in size.
            crops = [self._crops(t[i : i + 1]) for i in range(len(t))]
            figure, face, truth = (torch.cat(column) for column in zip(*crops, strict=True))
            write_rows([figure, face, face + self.state.ema(figure, face), truth], path)

    @torch.no_grad()
    def _crops(self, t: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Face crops (B, 3, S, S): skeleton, G's picture as the final video shows it, true frame."""
        context, data, side = self.context, self.context.data, self.context.recipe.face.pixels
        # As in rendering: no slack, upright.
        views = pair_views(data.poses, t, context.recipe)
        figures, _ = data.batch(t, views)
        background = None
        if context.background is not None:
            background = to_tensor(np.stack([view.crop(context.background) for view in views])).to(context.device)
        alpha: list[Tensor] = []

        def paint(figure: Tensor, last: Tensor) -> Tensor:
            picture, picture_alpha = self.main.paint(figure, last, background)
            alpha.append(picture_alpha)
            return picture

        pictures = rollout(paint, figures.to(context.device), temporal=context.recipe.training.temporal)
        assert data.face_boxes is not None
        corners = np.array([[v.window.left, v.window.top] * 2 for v in views], np.float32)
        boxes = torch.from_numpy(data.face_boxes[t] - corners).to(context.device)
        crop = partial(crop_square, boxes_B4=boxes, pixels=side)
        figure = to_tensor(np.stack([data.face_figure(int(i)) for i in t]))
        truth = to_tensor(np.stack([data.face(int(i)) for i in t]))
        face = add_background_detail(crop(pictures[:, 1]), crop(alpha[-1]), self._detail(t))
        return figure.to(context.device), face, truth.to(context.device)

    def _detail(self, t: NDArray[np.int64]) -> Tensor | None:
        """Background detail in the face crops, float32 (B, 3, S, S); None without a background."""
        data, detail = self.context.data, self.context.detail
        if detail is None:
            return None
        assert data.face_boxes is not None
        corners = data.letterbox.points_to_frame(data.face_boxes[t].reshape(-1, 2, 2)).reshape(-1, 4).tolist()
        boxes = [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners]
        return detail_crops(detail, boxes, self.context.recipe.face.pixels).to(self.context.device)

"""The stage of the FaceGAN: the generator is finished, and a residual learns what its faces lack."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.data.crops import pair_views
from dancedist.data.pairs import detail_crops, to_tensor
from dancedist.models.face import build_face_discriminator, build_face_generator, cut, face_losses, finished
from dancedist.models.generator import build_generator
from dancedist.models.step import discriminator_losses, rollout
from dancedist.training.stages import Lesson, Losses, Weights, overlay, perceptual_loss
from dancedist.training.state import new_state
from dancedist.training.visualize import picked, write_rows

log = logging.getLogger("dancedist")


class FaceStage:
    """See stages.Stage. `before`: the weights of the generator; `first`: those of another dancer's face generator."""

    def __init__(self, lesson: Lesson, before: Weights | None = None, first: Weights | None = None) -> None:
        self.lesson, recipe = lesson, lesson.recipe
        with torch.random.fork_rng():
            torch.manual_seed(recipe.training.seed)
            generator = build_face_generator(recipe.face).to(lesson.device)
            discriminator = build_face_discriminator(recipe.face).to(lesson.device)
        overlay(generator, first or {})
        self.state = new_state(generator, discriminator, recipe.training, lesson.engine)
        main = build_generator(recipe).to(lesson.device).eval().requires_grad_(False)
        if before is not None:
            main.load_state_dict(dict(before))
        self.state.main = self.main = main
        self.perceptual = perceptual_loss(recipe, lesson.device)
        every = len(lesson.data.pairs(lesson.data.split.train))
        if unseen := every - len(lesson.pairs):
            log.info("the face is learnt from %d pairs of %d: %d show none", len(lesson.pairs), every, unseen)

    def part_losses(self, t: NDArray[np.int64], part: int) -> tuple[Losses, Losses]:
        """See stages.Stage."""
        lesson, state, recipe = self.lesson, self.state, self.lesson.recipe.face
        figure, face, truth = self._crops(lesson.ranks.mine(t))
        better = face + state.generator(figure, face)
        fake, real = (lesson.judged(torch.cat([figure, y], 1), state.step, part) for y in (better, truth))
        state.discriminator.module.requires_grad_(False)
        g = face_losses(state.discriminator.module, fake, better, truth, self.perceptual, recipe.perceptual, recipe.l1)
        state.discriminator.module.requires_grad_(True)
        d = discriminator_losses(state.discriminator, fake.detach(), real)
        return g, {name.replace("d_", "fd_"): value for name, value in d.items()}

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """See stages.Stage: rows figure, the generator's face, the better one, truth."""
        t = picked(self.lesson.data.face_pairs(self.lesson.data.split.validation))
        if len(t):
            # One by one: their windows differ in size.
            crops = [self._crops(t[i : i + 1]) for i in range(len(t))]
            figure, face, truth = (torch.cat(several) for several in zip(*crops, strict=True))
            write_rows([figure, face, face + self.state.ema(figure, face), truth], path)

    @torch.no_grad()
    def _crops(self, t: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Crops (B, 3, S, S) of the figure, of G's picture as a film would show it, and of the true frame."""
        lesson, data, side = self.lesson, self.lesson.data, self.lesson.recipe.face.pixels
        # As a film has them: no slack, upright.
        views = pair_views(data.poses, t, lesson.recipe)
        figures, _ = data.batch(t, views)
        backdrop = None
        if lesson.backdrop is not None:
            backdrop = to_tensor(np.stack([view.look(lesson.backdrop) for view in views])).to(lesson.device)
        painted: list[Tensor] = []

        def paint(figure: Tensor, last: Tensor) -> Tensor:
            picture, where = self.main.paint(figure, last, backdrop)
            painted.append(where)
            return picture

        pictures = rollout(paint, figures.to(lesson.device), temporal=lesson.recipe.training.temporal)
        assert data.face_boxes is not None
        corner = np.array([[v.window.left, v.window.top] * 2 for v in views], np.float32)
        boxes = torch.from_numpy(data.face_boxes[t] - corner).to(lesson.device)
        crop = partial(cut, boxes_B4=boxes, pixels=side)
        figure = to_tensor(np.stack([data.face_figure(int(i)) for i in t]))
        truth = to_tensor(np.stack([data.face(int(i)) for i in t]))
        face = finished(crop(pictures[:, 1]), crop(painted[-1]), self._detail(t))
        return figure.to(lesson.device), face, truth.to(lesson.device)

    def _detail(self, t: NDArray[np.int64]) -> Tensor | None:
        data, detail = self.lesson.data, self.lesson.detail
        if detail is None:
            return None
        assert data.face_boxes is not None
        boxes = data.fit.points_to_frame(data.face_boxes[t].reshape(-1, 2, 2)).reshape(-1, 4).tolist()
        several = [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes]
        return detail_crops(detail, several, self.lesson.recipe.face.pixels).to(self.lesson.device)

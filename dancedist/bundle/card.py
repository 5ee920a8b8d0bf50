"""The model card, README.md of a bundle."""

from __future__ import annotations

from fractions import Fraction

from dancedist.bundle.record import PORTRAIT, Dancer


def _settling(dancer: Dancer) -> str:
    return "not within the frames tested" if dancer.settling_frames is None else f"in {dancer.settling_frames} frames"


def card(dancer: Dancer) -> str:
    """Text of the model card, Markdown."""
    origin, size, r = dancer.provenance, dancer.letterbox.picture_size, dancer.recipe
    minutes, faceless = origin.seconds / 60, "face" in r.stages and dancer.face_sha256 is None
    lines = [
        f"# Dancer: {dancer.name}",
        "",
        "This model renders a person who dances the movements of another video. **Its videos are synthetic: label them",
        "as synthetic wherever they are shown, and get the person's consent.** Made with dancedist; method: Everybody",
        "Dance Now (Chan et al., ICCV 2019).",
        "",
        "| | |",
        "|---|---|",
        f"| trained on | `{origin.video}`, {origin.train_frames} frames, sha256 `{origin.video_sha256[:16]}` |",
        f"| frames | {dancer.frame_size[0]}x{dancer.frame_size[1]} px at {float(Fraction(dancer.fps)):.2f}/s |",
        f"| network | {size[0]}x{size[1]} px, {r.generator.filters} filters, {r.generator.blocks} blocks |",
        f"| training | {origin.steps} steps in {minutes:.1f} minutes on {origin.machine}, {origin.finished} |",
        f"| poses | {dancer.topology}, `{r.pose.model}` |",
        f"| stages | {', '.join(r.stages)}{' (no face was visible)' if faceless else ''} |",
        f"| temporal smoothing | {'on' if r.training.temporal else 'off'} |",
        f"| a cold start matches continuous rendering | {_settling(dancer)} |",
        "",
        f"![rendered portrait]({PORTRAIT})",
        "",
        "![skeleton, result, truth](sample.png)",
        "",
    ]
    if dancer.metrics:
        lines += ["## Metrics on held-out frames", ""]
        for test, methods in dancer.metrics.items():
            columns = sorted({k for values in methods.values() for k in values})
            lines += [f"{test}:", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
            for name, values in methods.items():
                lines.append(f"| {name} | {' | '.join(str(values.get(k, '-')) for k in columns)} |")
            lines.append("")
    lines += [
        "## Limits",
        "",
        "It fails for poses far from those of the training, for props, other clothes and other backgrounds.",
    ]
    return "\n".join(lines) + "\n"

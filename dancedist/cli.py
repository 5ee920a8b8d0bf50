"""The command line `dancedist`: one function per command, on local files."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dancedist.errors import DancedistError, Notice, RecipeInvalid
from dancedist.recipe.loading import load_recipe
from dancedist.recipe.schema import Recipe

app = typer.Typer(
    name="dancedist",
    help="Train a dancer on a few minutes of video of one person, and render the dancer in somebody else's dance.",
    epilog="Exit codes: 0 success, 2 invalid input, 1 a bug. Rendered videos are synthetic: say so when you show them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
log = logging.getLogger("dancedist")

Preset = Annotated[str, typer.Option("--preset", help="quick (minutes on two CPU cores), fast or paper (for a GPU).")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="TOML file with settings that replace the preset's.")]
PoseModel = Annotated[
    str | None, typer.Option(help="Pose network: a name that `dancedist weights` lists, or an ONNX file.")
]
RenderRecipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="TOML file whose video, pose and retarget settings replace the dancer's."),
]
Video = Annotated[Path, typer.Argument(help="A video file.", show_default=False)]


def _print_version(requested: bool) -> None:
    if requested:
        from dancedist.version_info import version_info

        for name, value in version_info():
            typer.echo(f"{name} {value}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_print_version,
            help="Print the versions of dancedist and its parts, and exit.",
        ),
    ] = False,
) -> None:
    """Train a dancer on a few minutes of video of one person, and render the dancer in somebody else's dance."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)


@app.command()
def probe(
    video: Video,
    as_target: Annotated[
        bool, typer.Option("--as-target", help="Extract poses too and check whether a dancer can be trained on it.")
    ] = False,
    preset: Preset = "quick",
    recipe: RecipeFile = None,
) -> None:
    """Show a video's properties and, with --as-target, check before training whether it is suitable."""
    from dancedist import commands

    settings = load_recipe(preset, recipe)
    probed, report = commands.probe_video(video, settings, as_target)
    rows = {
        "size": f"{probed.width}x{probed.height} px, upright",
        "rate": f"{float(probed.fps):.3f} frames/s" + (", resampled" if probed.variable_rate else ""),
        "length": f"{probed.frames} frames, {probed.duration_s:.2f} s",
        "video": probed.video_codec,
        "sound": probed.audio_codec or "none",
    }
    _print_rows(str(video), rows)
    _log(probed.notices)
    if report is not None:
        marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "refuse": "[red]refuse[/]"}
        _print_rows("as a target", {f.slug: f"{marks[f.verdict]}  {f.message}" for f in report.findings})
        commands.require_suitable(report)


@app.command()
def poses(
    video: Video,
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write: one row per frame, xy in px.")],
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    pose_model: PoseModel = None,
) -> None:
    """Extract one dancer's poses from a video."""
    from dancedist import commands

    extracted = commands.find_poses(video, out, _settings(preset, recipe, pose_model))
    with_dancer = int(extracted.present.sum())
    _log(extracted.notices)
    Console().print(
        f"{out}: {len(extracted)} frames, {with_dancer} with a dancer, {extracted.topology.name}, {extracted.model}"
    )


@app.command()
def train(
    videos: Annotated[list[Path], typer.Argument(help="Video files of one person.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", help="Folder to work in; the bundle is written to its subfolder dancer/.")
    ],
    name: Annotated[str | None, typer.Option(help="The dancer's name; default: the name of the first video.")] = None,
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    pose_model: PoseModel = None,
    initial: Annotated[
        Path | None, typer.Option("--from", help="Another dancer's bundle (a folder), for initial weights.")
    ] = None,
) -> None:
    """Train a dancer on videos of one person. If it is interrupted, the same command resumes it."""
    from dancedist import commands

    target, bundle = commands.train(videos, out, name or videos[0].stem, _settings(preset, recipe, pose_model), initial)
    _log(target.notices)
    provenance = bundle.dancer.provenance
    Console().print(f"{out / 'dancer'}: {provenance.steps} steps in {provenance.seconds / 60:.1f} minutes")


@app.command()
def render(
    dancer: Annotated[Path, typer.Argument(help="A dancer's bundle (a folder).")],
    source: Annotated[Path, typer.Argument(help="Video of the dance to render.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="MP4 to write, in the dancer's frame size, with the source's length and sound."),
    ],
    recipe: RenderRecipe = None,
) -> None:
    """Render a dancer in the dance of another video."""
    from dancedist import commands

    film = commands.render(dancer, source, out, recipe)
    _log(film.notices)
    Console().print(f"{film.path}: {film.frames} frames, {film.size[0]}x{film.size[1]} px")


@app.command()
def evaluate(
    dancer: Annotated[Path, typer.Argument(help="A dancer's bundle (a folder).")],
    target: Annotated[
        list[Path],
        typer.Option("--target", help="Video that it was trained on, whose last part was held out. May be repeated."),
    ],
    work: Annotated[
        Path | None,
        typer.Option(help="Working folder of its training, to reuse poses; default: target/ beside the bundle."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file to write the report to.")] = None,
) -> None:
    """Measure a dancer on its held-out block, against the nearest training frame and the mean frame."""
    from dancedist import commands
    from dancedist.evaluation.report import table, where_it_loses, write_report

    report = commands.evaluate(dancer, target, work or dancer.parent / "target")
    Console().print(table(report))
    for line in where_it_loses(report, "dancer"):
        Console().print(line)
    if out is not None:
        write_report(report, out)


@app.command()
def weights(
    fetch: Annotated[
        list[str] | None,
        typer.Option(help="Name of weights to download, or a group: 'evaluation', 'quick'. May be repeated."),
    ] = None,
) -> None:
    """List pretrained weights with their licence and their file; with --fetch, download them ahead of time."""
    from dancedist import commands

    for name in fetch or []:
        commands.fetch_weights(name)
    rows = Table("name", "for", "MB", "licence", "where", box=None)
    for entry, path in commands.known_weights():
        rows.add_row(
            entry.name, entry.purpose, f"{entry.size_bytes / 1e6:.1f}", entry.licence, path or "not downloaded"
        )
    Console().print(rows)


@app.command()
def demo(
    target: Annotated[
        Path | None, typer.Option(help="Video of the person to train on; default: a drawn performer.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Video of the dance to render; default: another drawn performer.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("runs/demo"),
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    pose_model: PoseModel = None,
) -> None:
    """Extract poses, train, render and measure. Without videos it uses two drawn performers."""
    from dancedist.demo import run_demo
    from dancedist.evaluation.report import table, where_it_loses

    if (target is None) != (source is None):
        raise RecipeInvalid("--target and --source go together", expected="both --target and --source, or neither")
    outcome = run_demo(_settings(preset, recipe, pose_model), out, target, source)
    _log(outcome.notices)
    console = Console()
    if outcome.joint_error_torsos:
        errors = {k: f"{v:.4f} torso lengths" for k, v in outcome.joint_error_torsos.items()}
        _print_rows("joint error of the poses, mean", errors)
    for danced, report in outcome.reports.items():
        console.print(f"\n[bold]{danced}[/] ({report.frames} frames)")
        console.print(table(report))
        for line in where_it_loses(report, "dancer"):
            console.print(f"  {line}")
    _print_rows("seconds", {k: f"{v:.0f}" for k, v in outcome.seconds.items()})
    _print_rows("files", {name: str(path) for name, path in outcome.files.items()})


def _settings(preset: str, file: Path | None, pose_model: str | None) -> Recipe:
    recipe = load_recipe(preset, file)
    if pose_model is None:
        return recipe
    return recipe.model_copy(update={"pose": recipe.pose.model_copy(update={"model": pose_model})})


def _log(notices: Sequence[Notice | str]) -> None:
    for notice in notices:
        log.warning("warning: %s", notice)


def _print_rows(title: str, rows: dict[str, str]) -> None:
    grid = Table(title=title, box=None, show_header=False, title_justify="left", title_style="bold")
    for key, value in rows.items():
        grid.add_row(key, value)
    Console().print(grid)


def main() -> None:
    """Entry point: an invalid input is reported in one line, with exit code 2."""
    try:
        app()
    except DancedistError as error:
        sys.stderr.write(f"dancedist: {error} [{error.slug}]\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("dancedist: stopped; run the same command to resume\n")
        raise SystemExit(130) from None

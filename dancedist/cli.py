"""`dancedist`: one verb a function, on local files."""

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
from dancedist.recipe import Recipe, load_recipe

app = typer.Typer(
    name="dancedist",
    help="Learn a dancer from a few minutes of film and render them dancing somebody else's dance.",
    epilog="Exit code: 0 done, 2 the input is at fault, 1 a bug. What it renders is synthetic: say so.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
log = logging.getLogger("dancedist")

Preset = Annotated[str, typer.Option("--preset", help="quick (minutes on two CPU cores), fast or paper (a GPU).")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="TOML file with settings over the preset's.")]
PoseModel = Annotated[str | None, typer.Option(help="Pose network: a weights name or an ONNX file. See `weights`.")]
RenderRecipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="TOML file: its video, pose and retarget go over what the dancer has."),
]
Video = Annotated[Path, typer.Argument(help="A video file.", show_default=False)]


def _print_version(wanted: bool) -> None:
    if wanted:
        from dancedist.version_info import inside

        for name, told in inside():
            typer.echo(f"{name} {told}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print what is inside and exit.")
    ] = False,
) -> None:
    """Learn a dancer from a few minutes of film and render them dancing somebody else's dance."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)


@app.command()
def probe(
    video: Video,
    as_target: Annotated[
        bool, typer.Option("--as-target", help="Find poses too and say whether a dancer can be trained on it.")
    ] = False,
    preset: Preset = "quick",
    recipe: RecipeFile = None,
) -> None:
    """Say what a video holds, and whether it will do as a target before hours are spent on it."""
    from dancedist import commands

    settings = load_recipe(preset, recipe)
    found, report = commands.look_at(video, settings, as_target)
    rows = {
        "size": f"{found.width}x{found.height} px, upright",
        "rate": f"{float(found.fps):.3f} frames/s" + (", resampled" if found.variable_rate else ""),
        "length": f"{found.frames} frames, {found.duration_s:.2f} s",
        "video": found.video_codec,
        "sound": found.audio_codec or "none",
    }
    _print_rows(str(video), rows)
    _tell(found.notices)
    if report is not None:
        marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "refuse": "[red]refuse[/]"}
        _print_rows("as a target", {f.slug: f"{marks[f.verdict]}  {f.message}" for f in report.findings})
        commands.require_fit(report)


@app.command()
def poses(
    video: Video,
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write: one row a frame, xy in px.")],
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    pose_model: PoseModel = None,
) -> None:
    """Find one dancer's poses in a video."""
    from dancedist import commands

    found = commands.find_poses(video, out, _settings(preset, recipe, pose_model))
    with_dancer = int(found.present.sum())
    _tell(found.notices)
    Console().print(f"{out}: {len(found)} frames, {with_dancer} with a dancer, {found.topology.name}, {found.model}")


@app.command()
def train(
    videos: Annotated[list[Path], typer.Argument(help="Video files of one person.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder to work in; the bundle is left in its dancer/.")],
    name: Annotated[str | None, typer.Option(help="The dancer's name; default: the video's.")] = None,
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    pose_model: PoseModel = None,
    begin_with: Annotated[
        Path | None, typer.Option("--from", help="Another dancer's bundle, whose weights it begins with.")
    ] = None,
) -> None:
    """Train a dancer on videos of one person. Killed and started again, it goes on where it was."""
    from dancedist import commands

    target, bundle = commands.train(
        videos, out, name or videos[0].stem, _settings(preset, recipe, pose_model), begin_with
    )
    _tell(target.notices)
    made = bundle.dancer.provenance
    Console().print(f"{out / 'dancer'}: {made.steps} steps in {made.seconds / 60:.1f} minutes")


@app.command()
def render(
    dancer: Annotated[Path, typer.Argument(help="A dancer's bundle (a folder).")],
    source: Annotated[Path, typer.Argument(help="A video of somebody dancing.")],
    out: Annotated[Path, typer.Option("--out", help="MP4 to write: the dancer's size, the source's length and sound.")],
    recipe: RenderRecipe = None,
) -> None:
    """Render a dancer dancing the dance of another video."""
    from dancedist import commands

    film = commands.render(dancer, source, out, recipe)
    _tell(film.notices)
    Console().print(f"{film.path}: {film.frames} frames, {film.size[0]}x{film.size[1]} px")


@app.command()
def evaluate(
    dancer: Annotated[Path, typer.Argument(help="A dancer's bundle (a folder).")],
    target: Annotated[
        list[Path],
        typer.Option("--target", help="What it was trained on; the last part was held out. May be repeated."),
    ],
    work: Annotated[
        Path | None, typer.Option(help="Folder of its training, to reuse poses; default: beside it.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file to write.")] = None,
) -> None:
    """Measure a dancer on its held-out block, beside the nearest training frame and the mean frame."""
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
        list[str] | None, typer.Option(help="Name of weights to fetch now; 'evaluation' and 'quick' are groups.")
    ] = None,
) -> None:
    """List pretrained weights, where they are and under which licence; fetch them ahead of time."""
    from dancedist import commands

    for name in fetch or []:
        commands.fetch_weights(name)
    rows = Table("name", "for", "MB", "licence", "where", box=None)
    for entry, path in commands.known_weights():
        rows.add_row(entry.name, entry.purpose, f"{entry.size_bytes / 1e6:.1f}", entry.licence, path or "not here")
    Console().print(rows)


@app.command()
def demo(
    target: Annotated[Path | None, typer.Option(help="Video of the person to learn; default: a drawn one.")] = None,
    source: Annotated[Path | None, typer.Option(help="Video of the dance; default: another drawn performer.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("runs/demo"),
    preset: Preset = "quick",
    recipe: RecipeFile = None,
    pose_model: PoseModel = None,
) -> None:
    """Do it all: poses, training, rendering, measuring. Without footage, on two drawn performers."""
    from dancedist.demo import run_demo
    from dancedist.evaluation.report import table, where_it_loses

    if (target is None) != (source is None):
        raise RecipeInvalid("a target needs a source", expected="both --target and --source, or neither")
    outcome = run_demo(_settings(preset, recipe, pose_model), out, target, source)
    _tell(outcome.notices)
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


def _tell(notices: Sequence[Notice | str]) -> None:
    for notice in notices:
        log.warning("warning: %s", notice)


def _print_rows(title: str, rows: dict[str, str]) -> None:
    drawn = Table(title=title, box=None, show_header=False, title_justify="left", title_style="bold")
    for key, value in rows.items():
        drawn.add_row(key, value)
    Console().print(drawn)


def main() -> None:
    """Entry point: the user's faults are one line and exit code 2."""
    try:
        app()
    except DancedistError as error:
        sys.stderr.write(f"dancedist: {error} [{error.slug}]\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("dancedist: stopped; the same command goes on from here\n")
        raise SystemExit(130) from None

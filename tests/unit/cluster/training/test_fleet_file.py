from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from cluster.training.fleet_file import FleetInvalid, read_fleet
from cluster.training.placement import ResourceRequest
from dancedist.recipe.loading import load_recipe

GOOD = """
[defaults]
preset = "quick"
cpus = 2
[defaults.overrides.training]
seed = 3
max_steps = 10

[[target]]
name = "anna"
videos = "films/anna.mp4"
consent = { who = "Anna", when = 2026-01-31, reference = "folder 7" }

[[target]]
name = "ben"
videos = ["films/ben 1.mp4", "films/ben 2.mp4"]
gpus = 0.5
overrides.training.max_steps = 20
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    for name in ("anna", "ben 1", "ben 2"):
        (tmp_path / f"films/{name}.mp4").touch()
    return tmp_path


def fleet(folder: Path, text: str) -> Path:
    (folder / "fleet.toml").write_text(text)
    return folder / "fleet.toml"


def error_message(folder: Path, text: str) -> str:
    with pytest.raises(FleetInvalid) as error:
        read_fleet(fleet(folder, text))
    assert str(error.value).startswith(str(folder / "fleet.toml"))
    return error.value.message


def test_a_targets_settings_override_the_defaults(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = fleet(folder, GOOD)
    monkeypatch.chdir(folder / "films")
    anna, ben = read_fleet(Path("../fleet.toml"))
    assert (anna.name, ben.name) == ("anna", "ben")
    assert anna.videos == (str(file.parent / "films/anna.mp4"),)
    assert ben.videos == tuple(str(file.parent / f"films/ben {i}.mp4") for i in (1, 2))
    assert anna.consent is not None
    assert (anna.consent.who, anna.consent.when) == ("Anna", datetime.date(2026, 1, 31))
    assert ben.consent is None
    assert (anna.resources, ben.resources) == (ResourceRequest(1, 2, 0), ResourceRequest(1, 2, 0.5))
    quick = load_recipe("quick")
    assert anna.recipe == quick.model_copy(
        update={"training": quick.training.model_copy(update={"seed": 3, "max_steps": 10})}
    )
    assert (ben.recipe.training.max_steps, ben.recipe.training.seed) == (20, 3)


def test_all_errors_are_reported_at_once(folder: Path) -> None:
    text = """
[[target]]
name = "anna"
videos = "films/nobody.mp4"
[[target]]
name = "Anna"
videos = ["films/anna.mp4"]
overrides.training.max_stepps = 5
[[target]]
name = "carl"
videos = ["ftp://far/away.mp4"]
preset = "slow"
[[target]]
name = "dora"
videos = ["films/anna.mp4"]
workers = 2
gpus = 0.5
"""
    message = error_message(folder, text)
    for part in (
        "anna: 2 targets have this name",
        f"anna: {folder}/films/nobody.mp4 does not exist",
        "Anna: training.max_stepps",
        "carl: unknown preset (expected quick or fast or paper; got slow)",
        "carl: ftp://far/away.mp4: is not a storage URI",
        "dora: a fraction of a GPU needs exactly 1 worker",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "target: Field required"),
        ("[[target]]\nvideos = 'films/anna.mp4'", "target 1.name: Field required"),
        ("[[target]]\nname = 'anna'\nvideos = []", "anna.videos: List should have at least 1 item"),
        ("[[target]]\nname = 'anna'\nvideo = 'a.mp4'\nvideos = 'films/anna.mp4'", "anna.video: Extra inputs"),
        ("[[target]]\nname = '../anna'\nvideos = 'films/anna.mp4'", "../anna.name: String should match"),
        (
            "[[target]]\nname = 'anna'\nvideos = 'films/anna.mp4'\nconsent.who = 'A'",
            "anna.consent.when: Field required",
        ),
        ("[default]\n[[target]]\nname = 'anna'\nvideos = 'films/anna.mp4'", "default: Extra inputs"),
        ("[[target", "cannot be read"),
    ],
)
def test_an_invalid_fleet_file_is_refused(folder: Path, text: str, part: str) -> None:
    assert part in error_message(folder, text)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(FleetInvalid, match="cannot be read"):
        read_fleet(Path("nowhere.toml"))

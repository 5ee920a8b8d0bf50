"""A person's data in a storage, found and deleted; MLflow and renders have their own tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.privacy.inventory import DataInventory, find_data, purge_data
from cluster.storage.base import Storage
from cluster.storage.local import LocalStorage
from cluster.storage.open import open_storage
from cluster.training.placement import ResourceRequest
from cluster.training.target import TargetJob
from cluster.training.target_videos import note_videos, noted_videos
from tests.support.trained import KEYS, everything, leave_poses, leave_training, readable, write_footage
from tests.unit.conftest import toy_recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    """anna has three videos: her own, one outside, and one that ben is trained on too; ben has a copy of the first."""
    at = tmp_path / "store"
    films = {"footage/anna1.mp4": 10, "footage/both.mp4": 20, "footage/ben1.mp4": 10, "../out/anna2.mp4": 30}
    for name, shade in films.items():
        write_footage(str((at / name).resolve()), shade, tmp_path)
    anna = [f"{at}/footage/anna1.mp4", f"{at}/footage/both.mp4", f"{tmp_path}/out/anna2.mp4"]
    ben = [f"{at}/footage/both.mp4", f"{at}/footage/ben1.mp4"]
    opened = open_storage(str(at))
    for name, videos in (("anna", anna), ("ben", ben)):
        note_videos(opened, name, videos)
        make_bundle(tmp_path / name, toy_recipe(), name=name)
        leave_training(
            opened,
            TargetJob(name, tuple(videos), toy_recipe(), ResourceRequest(), str(at)),
            KEYS[name],
            tmp_path / name,
        )
    for file in (tmp_path / "anna").iterdir():
        opened.upload(file, f"first/0123/{file.name}")
    leave_poses(str(at), sorted({*anna, *ben}))
    rows = [{"target": "anna", "why": "anna"}, {"target": "ben"}]
    opened.write("fleet.json", json.dumps(rows).encode())
    opened.write("mine.json", b"not JSON, not written by dancedist")
    return opened


def files_about_anna(store: Storage) -> list[str]:
    names = ("anna", KEYS["anna"])
    return [name for name, text in readable(everything(store.uri)).items() if any(n in text for n in names)]


def test_all_data_of_a_person_is_deleted_and_nothing_of_others(store: Storage, tmp_path: Path) -> None:
    before = everything(store.uri)
    found = find_data(store, "anna", [])
    assert everything(store.uri) == before
    both, outside = f"{store.uri}/footage/both.mp4", f"{tmp_path}/out/anna2.mp4"
    assert (found.kept, found.outside) == ({both: "ben"}, [outside])
    assert found.begun_with == [f"{store.uri}/first/0123"]
    purge_data(store, found)
    assert files_about_anna(store) == []
    assert not (Path(store.uri) / "anna").exists() and Path(outside).exists()
    after = everything(store.uri)
    tables = {
        "fleet.json",
        *(f"poses/0123456789abcdef/{t}" for t in ("stats.parquet", "errors.parquet", "summary.json")),
    }
    bens = {name: data for name, data in after.items() if name not in tables}
    assert bens == {name: before[name] for name in bens}
    assert {name for name in before if "ben" in name or "both" in name} <= {*bens}
    # The copy shares its segments: they stay, the others are deleted.
    folders = {name.split("/")[4] for name in after if "/work/segments/" in name}
    assert len(folders) == 2 < len({name.split("/")[4] for name in before if "/work/segments/" in name})
    assert [row["target"] for row in json.loads(after["fleet.json"])] == ["ben"]
    assert not find_data(store, "anna", [])


def test_named_footage_outside_of_the_storage_is_deleted(store: Storage, tmp_path: Path) -> None:
    outside = f"{tmp_path}/out/anna2.mp4"
    found = find_data(store, "anna", [outside, f"{store.uri}/footage/both.mp4"])
    assert (found.given, found.outside) == ([outside], [])
    purge_data(store, found)
    assert not Path(outside).exists() and (Path(store.uri) / "footage" / "both.mp4").exists()


def test_videos_that_only_mlflow_lists_are_deleted(store: Storage) -> None:
    Path(f"{store.uri}/anna/videos.json").unlink()
    found = find_data(store, "anna", [], also=[f"{store.uri}/footage/anna1.mp4"])
    assert [entry.name for entry in found.to_remove["footage"]] == ["footage/anna1.mp4"]


def test_a_deletion_interrupted_anywhere_is_completed(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = {name: getattr(LocalStorage, name) for name in ("delete", "write", "delete_folder")}
    limit, done = 0, False
    while not done:
        limit, remaining = limit + 1, [limit]

        def counted(name: str, remaining: list[int] = remaining) -> object:
            def act(self: LocalStorage, *arguments: object) -> object:
                if not remaining[0]:
                    raise KeyboardInterrupt
                remaining[0] -= 1
                return real[name](self, *arguments)

            return act

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(LocalStorage, name, counted(name))
            try:
                found: DataInventory = find_data(store, "anna", [])
                purge_data(store, found)
                done = True
            except KeyboardInterrupt:
                continue
    assert limit > 3 and files_about_anna(store) == [] and not find_data(store, "anna", [])


def test_videos_of_several_fleets_are_all_recorded(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    note_videos(store, "anna", ["a.mp4"])
    note_videos(store, "anna", ["b.mp4"])
    assert noted_videos(store, "anna") == {"a.mp4", "b.mp4"}

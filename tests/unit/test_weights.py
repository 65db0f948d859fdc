"""Which weights these are: by content, remembered, by commit where a hub names one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cluster.engines import resolve
from cluster.engines.weights import folder_revision, hub_commit
from schemas import file_hash as hashes
from schemas.engine import VllmSpec
from schemas.errors import BadInput
from schemas.file_hash import file_hash

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    hashes._hash.cache_clear()
    folder_revision.cache_clear()


def model(folder: Path, content: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(content)
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("not part of it")
    return folder


def test_a_folder_is_known_by_what_it_gives(tmp_path: Path) -> None:
    one, moved, other = model(tmp_path / "a"), model(tmp_path / "b"), model(tmp_path / "c", "others")
    (moved / "README.md").write_text("another text")
    assert folder_revision(one) == folder_revision(moved) != folder_revision(other)
    assert resolve(VllmSpec(model=str(one))) == ("a", folder_revision(one))


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.gguf"
    path.write_text("one")
    first = file_hash(path)
    hashes._hash.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(hashes.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
        assert file_hash(path) == first
    hashes._hash.cache_clear()
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert file_hash(path) != first
    assert str(path) in json.loads((tmp_path / "cache/gristmill/weights.json").read_text())


def test_a_damaged_memory_is_forgotten(tmp_path: Path) -> None:
    place = tmp_path / "cache/gristmill/weights.json"
    place.parent.mkdir(parents=True)
    place.write_text("{half")
    path = tmp_path / "model.gguf"
    path.write_text("one")
    assert len(file_hash(path)) == 32


def test_a_hubs_names_are_commits(tmp_path: Path) -> None:
    snapshot = model(tmp_path / "models--org--name" / "snapshots" / COMMIT)
    assert folder_revision(snapshot) == COMMIT
    assert hub_commit("org/name", COMMIT) == COMMIT
    assert hub_commit("org/name", "main") is None
    reference = tmp_path / "hub-home/hub/models--org--name/refs/main"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT + "\n")
    assert hub_commit("org/name", "") == COMMIT
    assert resolve(VllmSpec(model="org/name")) == ("org/name", COMMIT)
    assert resolve(VllmSpec(model="org/other")) == ("org/other", "unversioned")


def test_an_adapter_is_part_of_the_revision(tmp_path: Path) -> None:
    base, adapter = model(tmp_path / "base"), model(tmp_path / "adapter", "low rank")
    with pytest.raises(BadInput, match=r"no folder of a LoRA adapter \(no adapter_config\.json\)"):
        resolve(VllmSpec(model=str(base), adapter=str(adapter)))
    (adapter / "adapter_config.json").write_text('{"r": 8}')
    folder_revision.cache_clear()
    plain, adapted = resolve(VllmSpec(model=str(base)))[1], resolve(VllmSpec(model=str(base), adapter=str(adapter)))[1]
    assert adapted.startswith(f"{plain}+")


def test_a_file_that_is_overwritten_in_place_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "rewards.npz"
    path.write_text("before")
    before = file_hash(path)
    path.write_text("after!")
    os.utime(path, ns=(1, 1))
    assert file_hash(path) != before

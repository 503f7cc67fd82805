"""The files of a trained model: what was written is read, anything else is refused with its name and a way out."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifiers import artifact as module
from classifiers.artifact import MANIFEST, WEIGHTS, ArtifactError, ArtifactMissing, load, save
from classifiers.registry import shipped

ARRAYS: dict[str, Any] = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "words": np.frombuffer(b"one\ntwo", np.uint8),
    "name": np.array(["a", "b"]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "model", {"seed": 1}, ARRAYS)
    return tmp_path / "model"


def rewrite(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | changes
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def exchange(folder: Path, raw: bytes) -> None:
    """Other weights, and a manifest that vouches for them."""
    (folder / WEIGHTS).write_bytes(raw)
    rewrite(folder, weights_sha256=sha256(raw).hexdigest())


def packed(**arrays: Any) -> bytes:
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


def damaged(raw: bytes) -> bytes:
    """An archive whose directory is whole and whose first entry is not."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        start = archive.infolist()[0].header_offset + 30 + len(archive.infolist()[0].filename)
    return raw[:start] + b"\xff" * 40 + raw[start + 40 :]


def encrypted(raw: bytes) -> bytes:
    """An archive whose first entry says that it takes a password: a bit in its header, and in the directory's."""
    changed = bytearray(raw)
    changed[6] |= 1
    changed[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def test_what_was_saved_is_loaded(folder: Path) -> None:
    found = load(folder)
    assert found.manifest["seed"] == 1
    assert {name: values.tolist() for name, values in found.arrays.items()} == {
        name: values.tolist() for name, values in ARRAYS.items()
    }
    assert {name: values.dtype for name, values in found.arrays.items()} == {
        name: values.dtype for name, values in ARRAYS.items()
    }


def test_it_is_named_by_the_head_of_the_hash_of_its_weights(folder: Path) -> None:
    assert load(folder).name == f"learned@{sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:8]}"
    assert save(folder, {"seed": 2}, ARRAYS).name == load(folder).name
    assert save(folder, {"seed": 2}, ARRAYS | {"words": np.zeros(3)}).name == load(folder).name


def test_the_same_arrays_give_the_same_bytes_in_whatever_order(tmp_path: Path) -> None:
    save(tmp_path / "a", {"seed": 1}, ARRAYS)
    save(tmp_path / "b", {"seed": 1}, dict(reversed(ARRAYS.items())))
    save(tmp_path / "c", {"seed": 1}, ARRAYS | {"weights": np.asfortranarray(ARRAYS["weights"])})
    for name in (MANIFEST, WEIGHTS):
        assert len({(tmp_path / where / name).read_bytes() for where in "abc"}) == 1


@pytest.mark.parametrize("gone", [(MANIFEST, WEIGHTS), (MANIFEST,), (WEIGHTS,)])
def test_what_is_missing_is_named_with_what_makes_it(folder: Path, gone: tuple[str, ...]) -> None:
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(ArtifactMissing, match="`make train` writes them") as raised:
        load(folder)
    assert tuple(name for name in (MANIFEST, WEIGHTS) if str(folder / name) in str(raised.value)) == gone


@pytest.mark.parametrize(
    ("file", "spoil", "complaint"),
    [
        (WEIGHTS, lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]), "found SHA-256"),
        (WEIGHTS, lambda folder: (folder / WEIGHTS).write_bytes(packed(weights=np.zeros(3))), "found SHA-256"),
        (WEIGHTS, lambda folder: (folder / WEIGHTS).write_bytes(b""), "found SHA-256"),
        (WEIGHTS, lambda folder: rewrite(folder, weights_sha256="0" * 64), "take both files from one training"),
        (WEIGHTS, lambda folder: exchange(folder, b"no archive at all"), "not an archive of plain arrays"),
        (WEIGHTS, lambda folder: exchange(folder, b""), "not an archive of plain arrays"),
        (WEIGHTS, lambda folder: exchange(folder, packed(weights=np.zeros(3))[:-9]), "not an archive of plain arrays"),
        (WEIGHTS, lambda folder: exchange(folder, damaged(packed(weights=np.zeros(30)))), "not an archive"),
        (WEIGHTS, lambda folder: exchange(folder, damaged((folder / WEIGHTS).read_bytes())), "not an archive"),
        (WEIGHTS, lambda folder: exchange(folder, packed(weights=np.array([{}, []], object))), "not an archive"),
        (WEIGHTS, lambda folder: exchange(folder, encrypted(packed(weights=np.zeros(3)))), "not an archive of plain"),
        (WEIGHTS, lambda folder: exchange(folder, single_array()), "not an archive of plain arrays"),
        (MANIFEST, lambda folder: (folder / MANIFEST).write_bytes(b"{"), "not JSON"),
        (MANIFEST, lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"), "not JSON"),
        (MANIFEST, lambda folder: (folder / MANIFEST).write_bytes(b"[" * 100_000), "not JSON"),
        (MANIFEST, lambda folder: (folder / MANIFEST).write_bytes(b"[]"), "needed is an object with weights_sha256"),
        (MANIFEST, lambda folder: rewrite(folder, weights_sha256=None), "needed is an object with weights_sha256"),
        (MANIFEST, lambda folder: rewrite(folder, format=None), "found format None, this version reads"),
        (MANIFEST, lambda folder: rewrite(folder, format=module.FORMAT + 1), "found format"),
    ],
    ids=[
        "cut", "exchanged", "emptied", "another hash", "no archive", "no byte", "cut and vouched for", "damaged",
        "damaged and compressed", "pickled objects", "encrypted", "one bare array", "cut manifest", "no text",
        "too deep", "a list", "no hash", "no format", "a later format",
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(folder: Path, file: str, spoil: Callable[[Path], object], complaint: str) -> None:
    spoil(folder)
    with pytest.raises(ArtifactError, match=complaint) as raised:
        load(folder)
    assert str(folder / file) in str(raised.value)
    assert not isinstance(raised.value, ArtifactMissing)


def single_array() -> bytes:
    target = io.BytesIO()
    np.save(target, np.zeros(3))
    return target.getvalue()


def test_objects_are_not_pickled_in_either(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        save(tmp_path, {}, {"weights": np.array([{}, []], object)})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_file_that_may_not_be_read_is_named(folder: Path, name: str) -> None:
    (folder / name).chmod(0)
    with pytest.raises(ArtifactError, match="cannot be read") as raised:
        load(folder)
    assert str(folder / name) in str(raised.value)


def test_a_file_beyond_all_measure_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_BYTES", 100)
    with pytest.raises(ArtifactError, match="larger than the allowed 100 bytes") as raised:
        load(folder)
    assert str(folder / WEIGHTS) in str(raised.value)


# what ships


def test_what_ships_is_within_its_bounds() -> None:
    assert sum(path.stat().st_size for path in module.SHIPPED.iterdir()) <= 10 * 2**20
    assert sorted(path.name for path in module.SHIPPED.iterdir()) == [MANIFEST, WEIGHTS]
    assert shipped().manifest["format"] == module.FORMAT


def test_the_shipped_manifest_says_where_the_model_comes_from() -> None:
    manifest = shipped().manifest
    assert isinstance(manifest["seed"], int)
    assert set(manifest["versions"]) == {"numpy", "python", "scikit-learn"}
    assert all(set(figures) for figures in manifest["metrics"].values())
    for source in manifest["sources"]:
        assert len(bytes.fromhex(source["sha256"])) == 32
        assert source["licence"].startswith(("Apache-2.0", "MIT"))
        assert source["rows"] >= source["prompts"] > 0


def test_only_sources_that_may_be_shipped_are_in_it() -> None:
    clean = {"mmlupro", "llmrouter_14tasks", "zeroeval_crux_math", "gaokao_zh", "lawbench_zh"}
    manifest = shipped().manifest
    assert {source["name"] for source in manifest["sources"]} == clean
    assert {task.partition(":")[0] for task in manifest["tasks"]} == clean

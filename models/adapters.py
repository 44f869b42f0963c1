"""The adapters on disk, and serving.json, which says which of them answers: the pointer that a promotion moves.

There is one pointer for each base model, so that going back to a model goes back to its adapter. Owns that whatever is
killed leaves a pointer to an adapter that is whole, and that a rollback finds what was served before, byte for byte.
What an adapter's folder must hold is `models.manifest`'s; loading it is the engine's; when to promote is the bot's. Two
processes may change the same folder: each change holds its lock.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from models import manifest as manifests
from models.errors import AdapterRefused
from models.learning.files import read_json, replace_folder, sync_folder, write_json
from models.manifest import FILES, GGUF, MANIFEST, Manifest, seal

__all__ = ["Adapters", "Canary", "Manifest", "Serving", "seal"]

POINTER = "serving.json"
_LOCK, _PARTIAL, _REMOVED = ".lock", ".partial-", ".removed-"
_LOCK_SECONDS = 60.0
_REMEMBERED = 32  # how many rollbacks lead back


@dataclass(frozen=True, slots=True)
class Canary:
    """An adapter on trial in a `share` of the conversations, `since` seconds after the epoch.

    `salt` draws which ones; it is told to nobody, as who knew the arms could vote for one.
    """

    adapter: str
    share: float
    since: float
    salt: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers: `adapter` (None: the base) and, on trial, the canary; `previous` is what answered, newest first."""

    adapter: str | None = None
    canary: Canary | None = None
    previous: tuple[str | None, ...] = ()


class Adapters:
    """The adapters of one folder for the base model with `base_sha256`. Blocks; safe between threads and processes."""

    def __init__(self, folder: Path, base_sha256: str) -> None:
        self.folder = folder
        self._base_sha256 = base_sha256

    def names(self) -> tuple[str, ...]:
        """Return the adapters that this model can serve, the oldest first; their bytes are checked when they load."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            with contextlib.suppress(AdapterRefused):
                found.append(self._read(path.name))
        return tuple(manifest.name for manifest in sorted(found, key=lambda known: (known.created_at, known.name)))

    def nights(self) -> dict[str, str]:
        """Return the night of every adapter here, of other models and damaged ones too; "" where nothing says it."""
        found = {}
        for path in filter(Path.is_dir, self.folder.iterdir() if self.folder.is_dir() else ()):
            with contextlib.suppress(AdapterRefused):  # what is being installed or removed, and others' folders
                manifests.require_name(path.name)
                found[path.name] = _night_of(path)
        return found

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of an adapter after every file was read and found unchanged. Raises AdapterRefused."""
        manifest = self._read(name)
        manifests.require_unchanged(self.folder / name, manifest)
        return manifest

    def gguf(self, name: str) -> Path:
        """Return the file that an engine loads, checked like `manifest`. Raises AdapterRefused."""
        self.manifest(name)
        return self.folder / name / GGUF

    def serving(self) -> Serving:
        """Return what is served, checked like `manifest`. Raises AdapterRefused; `heal` finds a way out.

        A model that never served anything, where another one has, is refused too: its members hear the base.
        """
        for refusal in self._of_other_models():
            raise AdapterRefused(refusal)
        serving = self._pointer()
        for name in _answering(serving):
            self.manifest(name)
        return serving

    def before(self) -> str | None:
        """Return what a rollback goes back to: the adapter beside the canary, else what was served before (None: base).

        Raises AdapterRefused when there is nothing.
        """
        serving = self._pointer()
        if serving.canary is not None:
            return serving.adapter
        found = self._before(serving)
        if not found:
            raise AdapterRefused("Nothing was served before the base model; name the adapter to serve.")
        return found[0]

    def install(self, staged: Path) -> str:
        """Copy a sealed folder in and return the adapter's name; nothing is served by this.

        What is installed already stays, so that a night may be resumed. Raises AdapterRefused for files that aren't as
        they were sealed, and for another adapter of the same name that is or was served.
        """
        try:
            name = str(read_json(staged / MANIFEST)["name"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise AdapterRefused(f"{staged} holds no adapter to install ({error}); run the night again.") from error
        sealed = manifests.read(staged, name, base_sha256=self._base_sha256)
        with self._changing():
            folder = self.folder / name
            if self._is_whole(name, sealed):
                return name
            if folder.exists() and name in self._known():
                raise AdapterRefused(f"Another adapter {name} is or was served; give this one another name.")
            partial = self.folder / f"{_PARTIAL}{name}"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                for file_name in (*FILES, MANIFEST):
                    shutil.copyfile(staged / file_name, partial / file_name)
                manifests.require_unchanged(partial, sealed)
                replace_folder(partial, folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        return name

    def promote(self, name: str, *, share: float | None, since: float) -> Serving:
        """Serve an installed adapter: as the canary of a `share` of the conversations, or with None to all at once."""
        with self._changing():
            self.manifest(name)
            now = self._pointer()
            if name in _answering(now):
                return now
            if share is None:
                return self._point(_moved(now, name))
            return self._point(replace(now, canary=Canary(name, share, since, secrets.token_hex(16))))

    def settle(self, keep: bool) -> Serving:
        """End the canary: it answers all from now on, or nobody. Without one nothing changes."""
        with self._changing():
            now = self._pointer()
            if now.canary is None:
                return now
            return self._point(_moved(now, now.canary.adapter) if keep else replace(now, canary=None))

    def rollback(self, name: str | None) -> Serving:
        """Serve `name` (None: the base) to all at once; going back to what was served before can be repeated.

        Raises AdapterRefused.
        """
        with self._changing():
            if name is not None:
                self.manifest(name)
            try:
                now = self._pointer()
            except AdapterRefused:
                return self._point(Serving(name))
            if name == now.adapter:
                return self._point(replace(now, canary=None))
            if name in now.previous:
                return self._point(Serving(name, previous=now.previous[now.previous.index(name) + 1 :]))
            return self._point(_moved(now, name))

    def set_times_right(self, now: float) -> None:
        """Date to `now` the adapters that are dated later, made while the clock was ahead.

        Nothing that was rated up to a cut may judge what is learned next, so a cut ahead would end learning until then.
        """
        with self._changing():
            for name in self.names():
                found = self._read(name)
                right = replace(found, created_at=min(found.created_at, now), training_cut=min(found.training_cut, now))
                if right != found:
                    write_json(self.folder / name / MANIFEST, asdict(right))

    def restart_canary(self, since: float) -> Serving:
        """Let the canary's time begin at `since`. Without one nothing changes."""
        with self._changing():
            now = self._pointer()
            return now if now.canary is None else self._point(replace(now, canary=replace(now.canary, since=since)))

    def prune(self, keep: int) -> None:
        """Remove all but the `keep` newest adapters, what is served, and what was served last before it."""
        with self._changing():
            names, now = self.names(), self._pointer()
            in_use = _answering(now) | set(filter(None, self._before(now)[:1]))
            for name in set(names[: max(0, len(names) - keep)]) - in_use:
                self._remove(name)

    def remove(self, name: str) -> None:
        """Remove an adapter, whole or not; a rollback finds it no more. Raises AdapterRefused while it is served."""
        manifests.require_name(name)
        with self._changing():
            try:
                now = self._pointer()
            except AdapterRefused:
                now = Serving()
            if name in _answering(now):
                raise AdapterRefused(f"The adapter {name} is served; roll it back before it is removed.")
            if name in now.previous:
                self._point(replace(now, previous=tuple(other for other in now.previous if other != name)))
            self._remove(name)

    def heal(self) -> tuple[Serving, tuple[str, ...]]:
        """Return what can be served and sentences on what can't; for a start.

        In the place of a damaged adapter comes the newest that was served before it and is whole, at last the base:
        one that was never served may have failed its proof. What another model serves stays as it is, for the day when
        MODEL is set back. What a kill left half done is cleared away.
        """
        with self._changing():
            for path in self.folder.iterdir():
                if path.name.startswith((_PARTIAL, _REMOVED)):
                    shutil.rmtree(path, ignore_errors=True)
            told: list[str] = []
            try:
                found = self._pointer()
            except AdapterRefused as error:
                told.append(f"{error} The base model answers.")
                return self._point(Serving()), tuple(told)
            now = found
            told += (f"{refusal} The base model answers instead." for refusal in self._of_other_models())
            if now.canary is not None and (refusal := self._refusal(now.canary.adapter)):
                told.append(f"{refusal} The trial of {now.canary.adapter} has ended.")
                now = replace(now, canary=None)
            refusal = self._refusal(now.adapter)
            while refusal:
                told.append(refusal)
                now = replace(now, adapter=now.previous[0] if now.previous else None, previous=now.previous[1:])
                refusal = self._refusal(now.adapter)
            if now.adapter != found.adapter:
                told[-1] += f" {f'The adapter {now.adapter}' if now.adapter else 'The base model'} answers instead."
            return now if now == found else self._point(now), tuple(told)

    def _read(self, name: str) -> Manifest:
        return manifests.read(self.folder / name, name, base_sha256=self._base_sha256)

    def _is_whole(self, name: str, sealed: Manifest) -> bool:
        try:
            return self.manifest(name) == sealed
        except AdapterRefused:
            return False

    def _refusal(self, name: str | None) -> str:
        """Return why an adapter can't be served, nothing if it can."""
        try:
            if name is not None:
                self.manifest(name)
        except AdapterRefused as error:
            return str(error)
        return ""

    def _before(self, serving: Serving) -> tuple[str | None, ...]:
        """Return what was served before and is still there, newest first."""
        names = self.names()
        found = tuple(name for name in serving.previous if name is None or name in names)
        return found or ((None,) if serving.adapter else ())

    def _known(self) -> set[str]:
        """Return what the pointers name at all, those of other models too."""
        return {
            name
            for serving in self._pointers().values()
            for name in (*_answering(serving), *filter(None, serving.previous))
        }

    def _of_other_models(self) -> tuple[str, ...]:
        """Return why what other models serve can't be served, while nothing was ever decided for this one."""
        pointers = self._pointers()
        if self._base_sha256 in pointers:
            return ()
        return tuple(filter(None, (self._refusal(serving.adapter) for serving in pointers.values())))

    def _remove(self, name: str) -> None:
        """Take the whole folder away at once; what is left of it has no adapter's name."""
        folder, away = self.folder / name, self.folder / f"{_REMOVED}{name}"
        if folder.is_dir():
            shutil.rmtree(away, ignore_errors=True)
            folder.replace(away)
            sync_folder(self.folder)
            shutil.rmtree(away, ignore_errors=True)

    def _pointer(self) -> Serving:
        return self._pointers().get(self._base_sha256, Serving())

    def _pointers(self) -> dict[str, Serving]:
        """Return what is served by the sha256 of the base model. Raises AdapterRefused."""
        try:
            return {base: _parsed(told) for base, told in read_json(self.folder / POINTER).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise AdapterRefused(
                f"{self.folder / POINTER} can't be read ({error}), so nobody knows what was served; "
                "`encore rollback NAME` serves an adapter again."
            ) from error

    def _point(self, serving: Serving) -> Serving:
        kept = replace(serving, previous=serving.previous[:_REMEMBERED])
        pointers = {}
        with contextlib.suppress(AdapterRefused):  # a damaged file says nothing of other models either
            pointers = self._pointers()
        pointers[self._base_sha256] = kept
        write_json(self.folder / POINTER, {base: asdict(one) for base, one in pointers.items()})
        return kept

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / _LOCK, timeout=_LOCK_SECONDS):
                yield
        except Timeout:
            raise AdapterRefused("Another Encore is changing the adapters; try again in a minute.") from None


def _night_of(adapter: Path) -> str:
    try:
        return str(read_json(adapter / MANIFEST)["night"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _moved(now: Serving, name: str | None) -> Serving:
    """Return that `name` answers all, and that what answered is the first to go back to."""
    return Serving(name, previous=(now.adapter, *now.previous))


def _answering(serving: Serving) -> set[str]:
    return {name for name in (serving.adapter, serving.canary and serving.canary.adapter) if name}


def _parsed(told: Any) -> Serving:
    canary = told["canary"] and Canary(
        str(told["canary"]["adapter"]),
        float(told["canary"]["share"]),
        float(told["canary"]["since"]),
        str(told["canary"].get("salt", "")),  # trials that began before there was one
    )
    names = [told["adapter"], *told["previous"]]
    if any(name is not None and not isinstance(name, str) for name in names):
        raise ValueError("it names no adapters")
    return Serving(names[0], canary or None, tuple(names[1:]))

"""What is served: promotions, the canary and its watch, rollbacks, told to the engine, the disk and the arms.

Owns the order of these three. The engine gets an adapter before the pointer on disk names it, and the arms follow last:
wherever the process is killed, the next start serves what the pointer says, and no reply asks for what isn't loaded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bot import canary_trial
from bot.errors import AdapterChangeRefused, NightRefused, StoreError
from bot.night_job import judge_canary
from models.arms import SHARES, CanaryRating, CanaryVerdict, Decision
from models.errors import AdapterRefused, ModelError

if TYPE_CHECKING:
    from bot.store import Store
    from models.adapters import Adapters, Serving
    from models.types import Engine

log = logging.getLogger(__name__)

BASE = "base"  # what a rollback calls the model without any adapter
_NOBODY = 0  # the actor of what Encore does by itself
# A reply waits in the queue with its adapter chosen, so what is served no more stays loaded for a while.
_LINGER_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Retired:
    """Which adapters were taken out of service for good, and what answers now (None: the base).

    `failures` are sentences of what could not be removed yet.
    """

    adapters: tuple[str, ...] = ()
    serving: str | None = None
    changed: bool = False
    failures: tuple[str, ...] = ()


Judge = Callable[[Sequence[CanaryRating], Path | None], Awaitable[CanaryVerdict | None]]


class Promotion:
    """`serving` is in memory and follows every change; without an `engine` (a command) only the pointer is moved.

    `nights` has the nights' folders, whose reports show what their canaries say.
    """

    def __init__(
        self,
        store: Store,
        adapters: Adapters,
        serving: Serving,
        *,
        engine: Engine | None,
        share: float,
        keep: int,
        clock: Callable[[], float] = time.time,
        judge: Judge = judge_canary,
        warnings: Iterable[str] = (),
        nights: Path | None = None,
    ) -> None:
        self.serving = serving
        self.verdict: CanaryVerdict | None = None
        self.warnings = list(warnings)
        self._store = store
        self._adapters = adapters
        self._engine = engine
        self._share = share if share >= SHARES[0] else None
        self._keep = keep
        self._clock = clock
        self._judge = judge
        self._nights = nights
        self._judged: list[CanaryRating] = []
        self._changing = asyncio.Lock()
        self._served_until: dict[str, float] = {}

    @property
    def folder(self) -> Path:
        return self._adapters.folder

    def names(self) -> tuple[str, ...]:
        """Return the adapters on disk, the newest first."""
        return tuple(reversed(self._adapters.names()))

    def serves(self, name: str) -> bool:
        return name in needed(self.serving)

    async def promote(self, name: str, *, last_check: Callable[[], Awaitable[None]]) -> None:
        """Serve an installed adapter, to CANARY_SHARE of the conversations at first where that is set.

        `last_check` is awaited when all but the pointer is done. When it raises, or the engine or the disk refuses the
        adapter (ModelError), everything is as it was.
        """
        since = self._clock()
        async with self._changing:
            required = {name} | needed(self.serving)
            await self._change(
                lambda: self._adapters.promote(name, share=self._share, since=since), required, last_check
            )
            self.verdict, self._judged = None, []
            try:
                await asyncio.to_thread(self._adapters.prune, self._keep)
            except OSError as error:
                log.warning("old adapters could not be removed: %s", error)

    async def rollback(self, to: str | None, actor_id: int) -> Serving:
        """Serve adapter `to` (BASE: none; None: the one before) to everyone at once. Raises AdapterChangeRefused."""
        async with self._changing:
            before = self.serving
            try:
                name = self._adapters.before() if to is None else None if to == BASE else to
                await self._change(lambda: self._adapters.rollback(name), {name} if name else set())
            except ModelError as error:
                raise AdapterChangeRefused(str(error)) from error
            self.verdict = None
            detail = {"from": before.adapter, "canary": before.canary and before.canary.adapter, "to": name}
            await self._audit(actor_id, "learning rollback", detail)
            return self.serving

    async def discard(self, name: str) -> None:
        """Remove an adapter that was installed and isn't to be served, so that what it learned from is gone with it."""
        try:
            await asyncio.to_thread(self._adapters.remove, name)
        except (ModelError, OSError) as error:
            log.warning("the adapter %s could not be removed: %s", name, error)
            self.warnings.append(f"The adapter {name} rests on a rating that was taken back; remove its folder.")

    async def retire(self, of_night: Callable[[str], bool]) -> Retired:
        """Take out of service for good, and off the disk, what the nights made that `of_night` names.

        It is asked "" where an adapter doesn't say its night. Other models' adapters go as well: MODEL may be set back.
        Where one of them answers, the last clean one before it does so from now on, or the base. Good to be done twice.
        """
        async with self._changing:
            stale = await asyncio.to_thread(self._made_in, of_night)
            before = self.serving
            if needed(before) & stale:
                await self._serve_without(stale)
                self.verdict = None
            # What was pruned may be loaded still, and nobody can say any more what it learned from.
            kept = set(await asyncio.to_thread(self._adapters.names)) - stale
            self._served_until = {name: at for name, at in self._served_until.items() if name in kept}
            if self._engine is not None and not set(self._engine.adapters) <= kept:
                await self._engine.swap(await asyncio.to_thread(self._paths, needed(self.serving)))
            failures = []
            for name in sorted(stale):
                try:
                    await asyncio.to_thread(self._adapters.remove, name)
                except (ModelError, OSError) as error:
                    failures.append(f"The adapter {name} could not be removed yet ({error}).")
            self.serving = replace(
                self.serving, previous=tuple(name for name in self.serving.previous if name not in stale)
            )
            serving, changed = self.serving.adapter, needed(before) != needed(self.serving)
            if stale:
                await self._audit(_NOBODY, "learning retire", {"adapters": sorted(stale), "serving": serving})
            return Retired(tuple(sorted(stale)), serving, changed, tuple(failures))

    def _made_in(self, of_night: Callable[[str], bool]) -> set[str]:
        return {name for name, night in self._adapters.nights().items() if of_night(night)}

    async def _serve_without(self, stale: set[str]) -> None:
        """Serve the last clean one; where the engine doesn't take it, the base."""
        if self.serving.adapter not in stale:
            await self._change(lambda: self._adapters.settle(False), set())
            return
        kept = set(await asyncio.to_thread(self._adapters.names)) - stale
        clean = next((name for name in self.serving.previous if name is None or name in kept), None)
        try:
            await self._change(lambda: self._adapters.rollback(clean), {clean} if clean else set())
        except ModelError as error:
            log.warning("the adapter %s can't be served (%s); the base model answers", clean, error)
            await self._change(lambda: self._adapters.rollback(None), set())

    async def watch(self, *, may_keep: bool = True) -> CanaryVerdict | None:
        """Judge the canary and act: keep it for everyone, or roll it back. None: none runs, or it can't be judged.

        One that is undecided goes on, but for no longer than a trial may take. Not `may_keep`, what would stay goes on.
        """
        await self._set_canary_right()
        verdict, canary = await self._verdict(), self.serving.canary
        undecided = verdict is None or verdict.decision is Decision.CONTINUE
        if canary is not None and undecided and canary_trial.is_over(canary, self._clock()):
            verdict = canary_trial.decided(canary, verdict)
        if verdict is None:
            return None
        if verdict.decision is Decision.KEEP and not may_keep:
            return replace(verdict, decision=Decision.CONTINUE)
        if verdict.decision is not Decision.CONTINUE:
            await self._settle(verdict)
        return verdict

    async def settle_before_a_night(self) -> CanaryVerdict | None:
        """End a canary, as a night needs one incumbent, and return how; None: there was none.

        Undecided, it ends by what is likelier if members were heard on it. Else it goes on, and NightRefused is raised.
        """
        verdict = await self.watch()
        canary = self.serving.canary
        if canary is None:
            return verdict
        if not canary_trial.is_heard(verdict):
            raise NightRefused(canary_trial.goes_on(canary, verdict, self._clock()))
        settled = canary_trial.decided(canary, verdict)
        await self._settle(settled)
        return settled

    async def set_times_right(self, now: float) -> None:
        """Date to `now` the adapters that were made while the clock was ahead. Raises AdapterRefused, OSError."""
        await asyncio.to_thread(self._adapters.set_times_right, now)

    async def _set_canary_right(self) -> None:
        """Begin the canary's time anew where the clock was ahead when it began: it would never be over."""
        async with self._changing:
            canary, now = self.serving.canary, self._clock()
            if canary is not None and canary.since > now:
                await self._change(lambda: self._adapters.restart_canary(now), set())

    async def _verdict(self) -> CanaryVerdict | None:
        canary = self.serving.canary
        if canary is None:
            self.verdict = None
            return None
        ratings = await self._store.canary_ratings(canary.adapter)
        if self.verdict is None or ratings != self._judged:
            verdict = await self._judge(ratings, await asyncio.to_thread(self._night_of, canary.adapter))
            if verdict is None or self.serving.canary != canary:
                return None
            self.verdict, self._judged = verdict, ratings
        return self.verdict

    def _night_of(self, adapter: str) -> Path | None:
        """Return the folder of the night that made an adapter, whose report shows the canary; None: it is gone."""
        try:
            night = self._adapters.manifest(adapter).night
        except (ModelError, OSError):
            return None
        folder = self._nights / Path(night).name if self._nights else None
        return folder if folder is not None and folder.is_dir() else None

    async def _settle(self, verdict: CanaryVerdict) -> None:
        """End the canary as the verdict has decided."""
        keep = verdict.decision is Decision.KEEP
        async with self._changing:
            canary = self.serving.canary
            if canary is None:
                return
            await self._change(lambda: self._adapters.settle(keep), set())
            self.verdict = None
        log.info("the canary %s %s. %s", canary.adapter, "stays" if keep else "was rolled back", verdict.sentence)
        if not keep:
            self.warnings.append(f"The canary {canary.adapter} was rolled back. {verdict.sentence}")
        detail = {"canary": canary.adapter, "kept": keep, "sentence": verdict.sentence}
        await self._audit(_NOBODY, "learning canary", detail)

    async def _audit(self, actor_id: int, action: str, detail: Mapping[str, object]) -> None:
        """Keep who changed what is served. It is changed already: a store that fails now must not deny that."""
        try:
            await self._store.add_audit(None, actor_id, action, detail)
        except StoreError as error:
            log.warning("%s %s is not in the audit: %s", action, detail, error)

    async def _change(
        self,
        write: Callable[[], Serving],
        required: set[str],
        last_check: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Load what will be served, move the pointer, then let replies follow; cancelled, it is done nevertheless."""
        change = asyncio.ensure_future(self._load_and_write(write, required, last_check))
        try:
            await asyncio.shield(change)
        except asyncio.CancelledError:
            await asyncio.gather(change, return_exceptions=True)
            raise

    async def _load_and_write(
        self, write: Callable[[], Serving], required: set[str], last_check: Callable[[], Awaitable[None]] | None
    ) -> None:
        if self._engine is not None:
            self._served_until |= dict.fromkeys(needed(self.serving), self._clock())
            if not required <= set(self._engine.adapters):
                await self._engine.swap(await asyncio.to_thread(self._paths, required))
        if last_check is not None:
            await last_check()
        try:
            self.serving = await asyncio.to_thread(write)
        except OSError as error:
            raise AdapterRefused(f"{self.folder} can't be written ({error.strerror}); make room there.") from error

    def _paths(self, required: set[str]) -> dict[str, Path]:
        """Return the files of what must be loaded, and of what replies in the queue may still name, if it can be had.

        A damaged adapter must not stand in the way of the rollback from it.
        """
        now = self._clock()
        paths = {name: self._adapters.gguf(name) for name in sorted(required)}
        for name, at in self._served_until.items():
            if name not in paths and 0 <= now - at <= _LINGER_SECONDS:
                try:
                    paths[name] = self._adapters.gguf(name)
                except AdapterRefused as error:
                    log.warning("what waits for the adapter %s will fail: %s", name, error)
        return paths


def needed(serving: Serving) -> set[str]:
    """Return the adapters that an engine must have loaded."""
    return {name for name in (serving.adapter, serving.canary and serving.canary.adapter) if name}

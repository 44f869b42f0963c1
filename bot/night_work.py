"""One night from its row to its end: collect, freeze, learn in a process of its own, promote, keep what came of it.

Owns the files of a night's folder that the bot writes, and their order: whatever is killed, the night goes on from what
is complete. When a night runs and what moderators ask of it is `bot.nightly`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot import night_files
from bot.collect import Collected
from bot.errors import EncoreError, NightError, NightRefused, StoreError
from bot.learning_records import MEMBERS_LEFT_OUT, TAKEN_BACK_BY, Night, NightOutcome, NightProgress, NightState
from bot.night_budget import spending, spent_seconds
from bot.night_cards import left_out
from bot.night_ground import Judged, Terms, judged_already
from bot.night_job import COMMAND, JobEnd, draw_report, run_job
from bot.night_ratings import NightRatings
from bot.privacy.members import note_members
from models.errors import ModelError
from models.learning import job as jobs
from models.learning.files import write_json
from models.learning.snapshot import write_snapshot

if TYPE_CHECKING:
    from bot.promotion import Promotion
    from bot.settings import Settings
    from bot.store import Store
    from models.spec import ModelSpec

log = logging.getLogger(__name__)

OnProgress = Callable[[NightProgress], None]

_MOMENT_SECONDS = 0.05
MOST_ATTEMPTS = 3  # a night that takes the whole process down with it isn't tried for ever
_STANDS_SECONDS = 2 * 86_400.0  # an older night has missed too many ratings to go on
_WENT_ON = "It went on where an attempt before it had stopped."


@dataclass(frozen=True, slots=True)
class NightRules:
    """What replaces single fields of the trainer's and the gate's rules, by name: the demo's nights are short."""

    train: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)


class _TakenBack(NightError):
    """`members` took it back themselves, and have not ended their consent to be learned from."""

    def __init__(self, sentence: str, members: Set[int] = frozenset()) -> None:
        super().__init__(sentence)
        self.members = members


class _Overtaken(NightError):
    """What was done meanwhile keeps an adapter from being served that is sound otherwise."""


class NightWork:
    """Does the nights of one folder; `running` says where one is."""

    def __init__(
        self,
        store: Store,
        spec: ModelSpec,
        promotion: Promotion,
        settings: Settings,
        *,
        folder: Path,
        clock: Callable[[], float] = time.time,
        command: Sequence[str] | None = None,
        rules: NightRules | None = None,
        snowflakes: bool = True,
        draw: Callable[[Path], Awaitable[None]] = draw_report,
    ) -> None:
        self.running: NightProgress | None = None
        self.folder = folder
        self.collecting = asyncio.Lock()  # held from what is read of the store until the folder says whose it is
        self._store = store
        self._spec = spec
        self._promotion = promotion
        self._settings = settings
        self._clock = clock
        self._command = command
        self._rules = rules or NightRules()
        self._ratings = NightRatings(store, spec, settings, clock=clock, snowflakes=snowflakes)
        self._draw = draw
        self._job: asyncio.Future[JobEnd] | None = None
        self._abandoned: set[str] = set()

    @property
    def can_learn(self) -> bool:
        """Return whether the model has weights to train beside."""
        return self._command is not None or self._spec.path is not None

    def require_learning(self) -> None:
        """Raise NightRefused unless the model can learn."""
        if not self.can_learn:
            raise NightRefused(f"The model {self._spec.name} can't learn; set MODEL=embedded or a GGUF file.")

    async def work(self, night: Night, on_progress: OnProgress | None) -> Night:
        """Take a running night to its end, from wherever it is, and return how it ended. Only cancellation raises."""
        goes_on = night.attempts > 1
        begun = "Going on where this night had stopped." if goes_on else "Collecting the ratings."
        self._tell(night, on_progress, jobs.Progress("collect", 0, 0, begun))
        try:
            ended = await self._attempt(night, on_progress)
        except _TakenBack as error:
            ended = _not_promoted(replace(night, state=NightState.FINISHED), NightOutcome.RETRACTED, str(error))
        except (EncoreError, ModelError) as error:
            return await self.fail(night, str(error))
        except OSError as error:
            return await self.fail(night, f"A file could not be written or read ({error}); make room and run it again.")
        except Exception as error:
            log.exception("the night %s broke", night.id)
            return await self.fail(night, f"The night broke ({type(error).__name__}: {error}); the log says more.")
        return await self.end(replace(ended, sentences=(*ended.sentences, _WENT_ON)) if goes_on else ended)

    async def abandon(self, nights: Collection[str]) -> None:
        """End the night under way if it is one of these, and return when it has ended."""
        while self.running is not None and self.running.night_id in nights:
            self._abandoned.add(self.running.night_id)
            if self._job is not None:
                self._job.cancel()
            await asyncio.sleep(_MOMENT_SECONDS)

    async def fail(self, night: Night, sentence: str) -> Night:
        """End a night whose job could not say how it ended."""
        return await self.end(replace(night, state=NightState.FAILED, outcome=None, sentences=(sentence,)))

    async def can_go_on(self, night: Night) -> bool:
        """Return whether a failed night may go on from its finished steps.

        What it rests on must still stand, and what it is judged against must still serve. Raises StoreError.
        """
        folder, serving = self.folder / night.id, self._promotion.serving
        is_recent = 0 <= self._clock() - night.started_at <= _STANDS_SECONDS
        if night.state is not NightState.FAILED or not is_recent or not await asyncio.to_thread(self._is_kept, night):
            return False
        try:
            job = await asyncio.to_thread(jobs.read_job, folder)
            is_same = (job.model_sha256, job.incumbent) == (self._spec.sha256, serving.adapter)
            if not is_same or serving.canary is not None:
                return False
            if await asyncio.to_thread(spent_seconds, folder) >= self._limit_seconds:
                return False
            return not (await self._ratings.taken_back(night, folder)).ratings
        except (ModelError, OSError, ValueError, TypeError, KeyError) as error:
            log.warning("the night %s can't go on: %s", night.id, error)
            return False

    async def judged_already(self, fresh: float) -> Judged | None:
        """Ask `bot.night_ground.judged_already` of the night that would begin now. Raises StoreError."""
        incumbent, rules = self._promotion.serving.adapter, (dict(self._rules.train), dict(self._rules.gate))
        terms, now = Terms(self._spec.sha256, incumbent, self._settings.system_prompt, *rules), self._clock()
        return await judged_already(self._store, self._ratings, self.folder, terms, now=now, fresh=fresh)

    async def give_up(self, night: Night) -> None:
        """Remove what a failed night keeps in order to go on."""
        await asyncio.to_thread(self._tidy, night)

    async def _attempt(self, night: Night, on_progress: OnProgress | None) -> Night:
        job = await self._prepare(night)
        result = await self._learn(night, job, on_progress)
        # Asked again at the end: who was deleted meanwhile must not be named any more.
        left_out = sorted(await self._ratings.left_out())
        ended = _with_result(night, result, {**await self._ratings.policy(), MEMBERS_LEFT_OUT: left_out})
        if ended.outcome is NightOutcome.INSUFFICIENT and (waiting := await self._ratings.waiting()):
            return replace(ended, sentences=(*ended.sentences, waiting))
        return await self._promote(ended, job) if ended.outcome is NightOutcome.PROMOTED else ended

    async def _prepare(self, night: Night) -> jobs.Job:
        """Return the night's job, made if need be: the snapshot first, the job last, so that a job is complete."""
        folder = self.folder / night.id
        if await asyncio.to_thread((folder / jobs.JOB).exists):
            job = await asyncio.to_thread(jobs.read_job, folder)
            if job.model_sha256 != self._spec.sha256:
                raise NightError("The model was changed since this night began; run a new night.")
            return job
        now = self._clock()
        await self._store.set_times_right(now)
        await self._promotion.set_times_right(now)
        async with self.collecting:
            collected = await self._ratings.collect(now, without=await self._ratings.left_out())
            return await asyncio.to_thread(self._freeze, folder, night, collected, now)

    def _freeze(self, folder: Path, night: Night, collected: Collected, now: float) -> jobs.Job:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        note_members(folder, collected.members)
        sha256 = write_snapshot(folder / jobs.SNAPSHOT, collected.snapshot)
        write_json(folder / night_files.STANDING, collected.standing.as_object())
        job = jobs.Job(
            night_id=night.id,
            model_path=self._spec.path or Path(),
            model_sha256=self._spec.sha256,
            model_name=self._spec.name,
            models_dir=self._settings.models_dir,
            adapters_dir=self._promotion.folder,
            dataset_sha256=sha256,
            now=now,
            incumbent=self._promotion.serving.adapter,
            seed=int(sha256[:8], 16) % 2**31,
            threads=self._settings.night_threads,
            limit_seconds=self._limit_seconds,
            system_prompt=self._settings.system_prompt,
            train_rules=dict(self._rules.train),
            gate_rules=dict(self._rules.gate),
        )
        jobs.write_job(folder, job)
        return job

    async def _learn(self, night: Night, job: jobs.Job, on_progress: OnProgress | None) -> jobs.Result:
        folder = self.folder / night.id
        result = await asyncio.to_thread(jobs.read_result, folder)
        if result is not None and not result.resumable:
            return result
        remaining = await asyncio.to_thread(self._set_limit, folder, job)
        work = run_job(
            self._command or COMMAND,
            folder,
            limit_seconds=remaining,
            threads=job.threads,
            on_progress=lambda progress: self._tell(night, on_progress, progress),
        )
        async with spending(folder):
            end = await self._unless_abandoned(night, work)
        if end.code is None:
            raise self._took_too_long()
        result = await asyncio.to_thread(jobs.read_result, folder)
        if result is None:
            how = f"was killed by signal {-end.code}" if end.code < 0 else f"ended with code {end.code}"
            raise NightError(f"The night's process {how} and left no result; {folder / jobs.LOG} says more.")
        return result

    async def _unless_abandoned(self, night: Night, work: Coroutine[Any, Any, JobEnd]) -> JobEnd:
        """Raise _TakenBack when a member took their data back meanwhile; the job has ended then."""
        self._job = asyncio.ensure_future(work)
        try:
            return await self._job
        except asyncio.CancelledError:
            if night.id not in self._abandoned:
                raise
            raise _TakenBack("A member took back data that it learned from: ended, to be trained anew.") from None
        finally:
            self._job = None

    def _set_limit(self, folder: Path, job: jobs.Job) -> float:
        """Tell the job what earlier attempts left of the limit, and return it in seconds."""
        (folder / jobs.RESULT).unlink(missing_ok=True)  # of an attempt that failed: this one may leave none
        limit, spent = self._limit_seconds, spent_seconds(folder)
        if spent >= limit:
            raise self._took_too_long()
        if (job.limit_seconds, job.spent_seconds) != (limit, spent):
            jobs.write_job(folder, replace(job, limit_seconds=limit, spent_seconds=spent))
        return limit - spent

    @property
    def _limit_seconds(self) -> float:
        return self._settings.night_limit_hours * 3600.0

    def _took_too_long(self) -> NightError:
        hours = f"{self._settings.night_limit_hours:g}"
        return NightError(
            f"The night took longer than {hours} hours and was ended; raise NIGHT_LIMIT_HOURS, and the next goes on "
            "where it was."
        )

    def _tell(self, night: Night, on_progress: OnProgress | None, told: jobs.Progress) -> None:
        self.running = NightProgress(night.id, told.step, told.done, told.total, told.sentence, self._clock())
        if on_progress is not None:
            try:
                on_progress(self.running)
            except Exception:  # who shows the progress must not end the night
                log.exception("the progress of a night could not be shown")

    async def _promote(self, night: Night, job: jobs.Job) -> Night:
        """Serve what the night made, unless what it rests on or is compared with is no more."""
        assert night.adapter is not None
        if self._promotion.serves(night.adapter):  # the last process was killed just after
            return night
        try:
            await self._promotion.promote(night.adapter, last_check=lambda: self._require_unchanged(night, job))
        except _Overtaken as error:
            return _not_promoted(night, NightOutcome.REJECTED, str(error))
        except _TakenBack as error:
            await self._promotion.discard(night.adapter)
            told = replace(night, adapter=None, figures={**night.figures, TAKEN_BACK_BY: sorted(error.members)})
            return _not_promoted(told, NightOutcome.RETRACTED, str(error))
        return night

    async def _require_unchanged(self, night: Night, job: jobs.Job) -> None:
        """Raise _TakenBack or _Overtaken unless all that the promotion rests on is as it was.

        Asked while nothing else can change what is served, and what takes longest is asked first.
        """
        await self._require_standing(night)
        serving = self._promotion.serving
        if serving.adapter != job.incumbent or serving.canary is not None:
            raise _Overtaken(
                "What is served was changed meanwhile, so the proof is against another adapter: not promoted."
            )
        if await self._store.learning_frozen():
            raise _Overtaken("Learning was frozen meanwhile: not promoted.")

    async def _require_standing(self, night: Night) -> None:
        """Raise _TakenBack when a rating of the night's data stands no more."""
        gone = await self._ratings.taken_back(night, self.folder / night.id)
        if gone.ratings:
            many = f"{gone.ratings} ratings of its data were"
            told = "1 rating that it learned from was" if gone.ratings == 1 else many
            raise _TakenBack(f"{told} taken back or banned meanwhile: not promoted, to be trained anew.", gone.members)

    async def end(self, night: Night) -> Night:
        """Keep how a night ended, have its report say so, and remove what it needs no more."""
        ended = replace(night, finished_at=self._clock())
        if ended.outcome is not NightOutcome.RETRACTED:
            await self._tell_end(ended)
        try:
            await self._store.end_night(ended)
        except StoreError as error:  # it stays a running one, and is taken up again with its result
            log.error("the end of the night %s is not kept: %s", night.id, error)
        else:
            if ended.state is not NightState.FAILED or not await asyncio.to_thread(self._is_kept, ended):
                await asyncio.to_thread(self._tidy, ended)
        if ended.outcome is NightOutcome.RETRACTED:  # without what is gone by now
            await self._tell_end(ended)
        log.info("the night %s ended: %s", night.id, " ".join(ended.sentences))
        return ended

    async def _tell_end(self, night: Night) -> None:
        try:
            is_news = await asyncio.to_thread(self._note_end, night)
        except OSError as error:
            log.warning("the report of the night %s doesn't say how it ended: %s", night.id, error)
        else:
            if is_news:
                await self._draw(self.folder / night.id)

    def _note_end(self, night: Night) -> bool:
        """Write down how a night ended; return whether its own report doesn't say so."""
        folder, told = self.folder / night.id, None
        if not folder.is_dir():
            return False
        with contextlib.suppress(ModelError):
            if (result := jobs.read_result(folder)) is not None:
                told = jobs.End(result.outcome.value, result.sentences, result.warnings)
        warnings = (*night.warnings, *left_out(night))
        end = jobs.End(night.outcome.value if night.outcome else night.state.value, night.sentences, warnings)
        jobs.write_end(folder, end)
        return end != told

    def _is_kept(self, night: Night) -> bool:
        """Return whether a failed night keeps its finished steps: another attempt at them may end otherwise."""
        folder = self.folder / night.id
        try:
            jobs.read_job(folder)
            result = jobs.read_result(folder)
        except ModelError:
            return False
        may_end_otherwise = result is None or result.resumable or result.outcome is jobs.Outcome.PROMOTED
        return may_end_otherwise and night.attempts < MOST_ATTEMPTS

    def _tidy(self, night: Night) -> None:
        """Remove what a night that ended needs no more, and what was taken back from it."""
        night_files.remove_bulk(self.folder / night.id)
        if night.outcome is NightOutcome.RETRACTED:
            night_files.remove_ratings(self.folder / night.id)


def _with_result(night: Night, result: jobs.Result, policy: Mapping[str, Any]) -> Night:
    told = replace(
        night,
        adapter=result.adapter,
        more_ratings_needed=result.more_ratings_needed,
        sentences=result.sentences,
        warnings=result.warnings,
        figures={**result.figures, **policy},
    )
    if result.outcome is jobs.Outcome.FAILED:
        return replace(told, state=NightState.FAILED)
    if result.outcome is jobs.Outcome.PROMOTED and result.adapter is None:
        raise NightError("The night names no adapter to promote; report this with its log.")
    return replace(told, state=NightState.FINISHED, outcome=NightOutcome(result.outcome.value))


def _not_promoted(night: Night, outcome: NightOutcome, sentence: str) -> Night:
    return replace(night, outcome=outcome, sentences=(sentence, *night.sentences))

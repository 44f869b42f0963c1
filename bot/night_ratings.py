"""A night's ratings: what it may learn from and whose it leaves out, what was taken back by its end, what waits.

Asks the store, and keeps nothing itself. What a night makes of the answers is `bot.night_work`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.collect import Collected, Standing, collect, eligible
from bot.learning_records import LEFT_OUT_DAYS, NightOutcome, NightState
from bot.night_files import STANDING
from models.learning.files import read_json
from models.prompt import PROMPT_VERSION

if TYPE_CHECKING:
    from bot.learning_records import Night
    from bot.settings import Settings
    from bot.store import Store
    from models.spec import ModelSpec

_NIGHTS_READ = 50


@dataclass(frozen=True, slots=True)
class TakenBack:
    """How much of what a night rests on stands no more, and which members' own doing that is."""

    ratings: int
    members: frozenset[int]


class NightRatings:
    def __init__(
        self,
        store: Store,
        spec: ModelSpec,
        settings: Settings,
        *,
        clock: Callable[[], float],
        snowflakes: bool,
    ) -> None:
        self._store = store
        self._spec = spec
        self._discord_permitted = bool(settings.discord_training_permission)
        self._clock = clock
        self._snowflakes = snowflakes

    async def collect(self, now: float, *, without: Set[int] = frozenset()) -> Collected:
        """Gather what may be learned from, but for the opinions of members in `without`."""
        return await collect(
            self._store,
            model_sha256=self._spec.sha256,
            prompt_version=PROMPT_VERSION,
            now=now,
            snowflakes=self._snowflakes,
            discord_permitted=self._discord_permitted,
            without=without,
        )

    async def left_out(self) -> frozenset[int]:
        """Return whose ratings the next night does without: they took some back during two nights in a row.

        In either of the two, for `LEFT_OUT_DAYS`: else some members in turn could keep all others' ratings from ever
        being learned from. Of nights in a row, each member but the first spoils one.
        """
        since = self._clock() - LEFT_OUT_DAYS * 86_400
        nights = await self._store.nights(_NIGHTS_READ)
        ended = [n for n in nights if n.state is NightState.FINISHED and (n.finished_at or n.started_at) >= since]
        pairs = (pair for pair in pairwise(ended) if all(night.outcome is NightOutcome.RETRACTED for night in pair))
        return frozenset(member for pair in pairs for night in pair for member in night.taken_back_by)

    async def taken_back(self, night: Night, folder: Path) -> TakenBack:
        """Compare what a night rests on with what stands now. Raises OSError, ValueError, StoreError."""
        then = Standing.of_object(await asyncio.to_thread(read_json, folder / STANDING))
        gone = then.less((await self.collect(self._clock())).standing)
        members = await self._store.took_back(gone, since=night.started_at) if len(gone) else frozenset()
        return TakenBack(len(gone), members)

    async def waiting(self) -> str:
        """Say how many ratings count for nothing as long as their members say nothing, if any do."""
        votes = await self._store.waiting_for_consent(
            eligible(self._discord_permitted), model_sha256=self._spec.sha256, prompt_version=PROMPT_VERSION
        )
        wait = "1 rating waits for its member's" if votes == 1 else f"{votes:,} ratings wait for their members'"
        return f"{wait} consent: /mod consent posts the question." if votes else ""

    async def policy(self) -> dict[str, Any]:
        """Return what the morning card says of who may teach."""
        coverage = await self._store.coverage()
        return {
            "discord_permitted": self._discord_permitted,
            "members": coverage.members,
            "consenting": coverage.consenting,
        }

"""Whether a night would find anything that the last one hadn't: the same ratings, judged every night, promote by luck.

A gate that is wrong once in a hundred nights is wrong soon where an idle server has it judge the same evidence night
after night, or one thumb a day has it judge almost the same. Account ages move every day without anything being said,
so they are no news.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.collect import Standing
from bot.learning_records import NightOutcome, NightState
from bot.night_files import STANDING
from models.errors import ModelError
from models.learning import job as jobs
from models.learning.files import read_json
from models.learning.snapshot import read_snapshot
from models.learning.words import counted

if TYPE_CHECKING:
    from bot.collect import Collected
    from bot.learning_records import Night
    from bot.night_ratings import NightRatings
    from bot.store import Store
    from models.learning.snapshot import Snapshot

log = logging.getLogger(__name__)

FRESH = 0.05  # of the replies that the last night judged by: a planned night waits for as many with something new

_NIGHTS_READ = 50


@dataclass(frozen=True, slots=True)
class Terms:
    """What a night's end depends on besides the ratings, as its job has it."""

    model_sha256: str
    incumbent: str | None
    system_prompt: str
    train_rules: Mapping[str, Any]
    gate_rules: Mapping[str, Any]

    @classmethod
    def of(cls, job: jobs.Job) -> Terms:
        return cls(job.model_sha256, job.incumbent, job.system_prompt, job.train_rules, job.gate_rules)


@dataclass(frozen=True, slots=True)
class Judged:
    """The last night that came to its end: `news` replies have something new to them since, too few for a night."""

    night: Night
    news: int
    needed: int

    @property
    def sentence(self) -> str:
        """Say why no night begins, and what lets one."""
        if not self.news:
            return (
                f"Nothing that I learn from has changed since the night {self.night.id}, and to judge the same ratings "
                "again would be a lottery: rate some replies first."
            )
        return (
            f"Members said something new of only {counted(self.news, 'reply')} since the night {self.night.id}, and to "
            f"judge almost the same ratings again would be a lottery: the next planned night waits for {self.needed}; "
            "/training run doesn't."
        )


async def judged_already(
    store: Store, ratings: NightRatings, folder: Path, terms: Terms, *, now: float, fresh: float
) -> Judged | None:
    """Return the last night that came to its end if another one would judge by almost the same; None: there is news.

    `fresh` is the share of its replies with which it isn't almost the same any more: 0 for a single one. `folder` has
    the nights' folders. Raises StoreError.
    """
    for night in await store.nights(_NIGHTS_READ):
        if not _came_to_its_end(night):
            return None
        if not await asyncio.to_thread((folder / night.id / STANDING).is_file):
            continue  # it found nothing new itself, or is past its retention
        collected = await ratings.collect(now, without=await ratings.left_out())
        news = await asyncio.to_thread(_news, folder / night.id, collected, terms)
        if news is None:
            return None
        needed = max(1, math.ceil(fresh * len(_replies(collected.standing))))
        return Judged(night, news, needed) if news < needed else None
    return None


def _came_to_its_end(night: Night) -> bool:
    """Return whether a night judged what it was made for, and did with it what the judgement says."""
    kept_from_serving = night.outcome is NightOutcome.REJECTED and night.adapter is not None
    return night.state is NightState.FINISHED and night.outcome is not NightOutcome.RETRACTED and not kept_from_serving


def _news(folder: Path, collected: Collected, terms: Terms) -> int | None:
    """Return of how many replies members say something else now; None where the night's own ground is another."""
    try:
        job = jobs.read_job(folder)
        then = Standing.of_object(read_json(folder / STANDING))
        if Terms.of(job) != terms or then.gold != collected.standing.gold:
            return None
        snapshot = read_snapshot(folder / jobs.SNAPSHOT, sha256=job.dataset_sha256)
    except (ModelError, OSError, ValueError, TypeError, KeyError) as error:
        log.info("what the night %s judged by can't be compared: %s", folder.name, error)
        return None
    if _trusted(snapshot) != _trusted(collected.snapshot):
        return None
    now = collected.standing
    return len(_replies(then.less(now)) | _replies(now.less(then)))


def _replies(standing: Standing) -> set[int]:
    """Return the replies that members say something of: of two that are compared, the first."""
    said: tuple[frozenset[tuple[Any, ...]], ...] = (standing.votes, standing.comparisons, standing.corrections)
    return {one[0] for each in said for one in each}


def _trusted(snapshot: Snapshot) -> set[int]:
    return {rater_id for rater_id, fact in snapshot.facts.items() if fact.trusted}

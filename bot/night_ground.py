"""Whether a night would find anything that the last one hadn't: the same ratings, judged every night, promote by luck.

A gate that is wrong once in a hundred nights is wrong soon where an idle server has it judge the same evidence night
after night. Account ages move every day without anything being said, so they are no news.
"""

from __future__ import annotations

import asyncio
import logging
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

if TYPE_CHECKING:
    from bot.collect import Collected
    from bot.learning_records import Night
    from bot.night_ratings import NightRatings
    from bot.store import Store
    from models.learning.snapshot import Snapshot

log = logging.getLogger(__name__)

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


async def judged_already(
    store: Store, ratings: NightRatings, folder: Path, terms: Terms, *, now: float
) -> Night | None:
    """Return the last night that came to its end if another one would judge by the same; None: there is news.

    `folder` has the nights' folders. Raises StoreError.
    """
    for night in await store.nights(_NIGHTS_READ):
        if not _came_to_its_end(night):
            return None
        if not await asyncio.to_thread((folder / night.id / STANDING).is_file):
            continue  # it found nothing new itself, or is past its retention
        collected = await ratings.collect(now, without=await ratings.left_out())
        is_same = await asyncio.to_thread(_is_same, folder / night.id, collected, terms)
        return night if is_same else None
    return None


def _came_to_its_end(night: Night) -> bool:
    """Return whether a night judged what it was made for, and did with it what the judgement says."""
    kept_from_serving = night.outcome is NightOutcome.REJECTED and night.adapter is not None
    return night.state is NightState.FINISHED and night.outcome is not NightOutcome.RETRACTED and not kept_from_serving


def _is_same(folder: Path, collected: Collected, terms: Terms) -> bool:
    try:
        job = jobs.read_job(folder)
        if Terms.of(job) != terms or Standing.of_object(read_json(folder / STANDING)) != collected.standing:
            return False
        then = read_snapshot(folder / jobs.SNAPSHOT, sha256=job.dataset_sha256)
    except (ModelError, OSError, ValueError, TypeError, KeyError) as error:
        log.info("what the night %s judged by can't be compared: %s", folder.name, error)
        return False
    return _trusted(then) == _trusted(collected.snapshot)


def _trusted(snapshot: Snapshot) -> set[int]:
    return {rater_id for rater_id, fact in snapshot.facts.items() if fact.trusted}

"""What the steps of one night share: its folder and job, its progress, its time limit, and the model, opened once.

Owns no step. Everything that a step leaves for the next one is a file of the folder; this holds only what can be opened
again.
"""

from __future__ import annotations

import logging
import time
from functools import cached_property
from typing import TYPE_CHECKING

from models.errors import ModelError
from models.learning.job import Progress
from models.prompt import PromptBuilder
from models.spec import ModelSpec
from models.tokenizer import ModelTokenizer, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel

    from models.learning.batches import Tokens
    from models.learning.examples import Example
    from models.learning.job import Job

log = logging.getLogger(__name__)


class LimitReached(ModelError):
    """The night took longer than its limit."""


class Context:
    """One run of a night's process. `say` is told every progress; `clock` is monotonic seconds."""

    def __init__(
        self, folder: Path, job: Job, *, say: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.job = folder, job
        self.seconds: dict[str, float] = {}
        self._say, self._clock = say, clock
        self._ends_at = clock() + job.limit_seconds - job.spent_seconds
        self._step, self._since = "", clock()

    @property
    def seconds_left(self) -> float:
        """Return the seconds until the limit, 0 past it."""
        return max(self._ends_at - self._clock(), 0.0)

    def begin(self, step: str, sentence: str) -> None:
        """Start a step, which ends where the next one begins."""
        self.end()
        self._step, self._since = step, self._clock()
        log.info("%s: %s", step, sentence)
        self.tell(0, 0, sentence)

    def end(self) -> None:
        if self._step:
            took = self._clock() - self._since
            self.seconds[self._step] = round(self.seconds.get(self._step, 0.0) + took, 2)
            log.info("%s took %.1f s", self._step, took)
        self._step = ""

    def tell(self, done: int, total: int, sentence: str) -> None:
        """Report progress in the step; long steps call this often, since it is here that the limit is kept.

        Raises LimitReached.
        """
        if self._clock() > self._ends_at:
            hours = self.job.limit_seconds / 3600
            raise LimitReached(
                f"The night took longer than its limit of {hours:.2g} hours; raise NIGHT_LIMIT_HOURS or NIGHT_THREADS."
            )
        self._say(Progress(self._step, done, total, sentence))

    @cached_property
    def tokenizer(self) -> ModelTokenizer:
        job = self.job
        return prepare(ModelSpec(job.model_name, job.model_path, job.model_sha256, "", "", ""), job.models_dir)

    @cached_property
    def prompts(self) -> PromptBuilder:
        return PromptBuilder(self.tokenizer)

    @cached_property
    def base(self) -> PreTrainedModel:
        from models.learning.torch_model import load_base

        job = self.job
        return load_base(
            job.model_path,
            job.model_sha256,
            job.models_dir,
            progress=lambda stage, done, total: self.tell(done, total, f"{stage}."),
        )

    def tokens(self, example: Example) -> Tokens:
        from models.learning.batches import Tokens

        prompt, completion = example.prompt_token_ids, example.completion_token_ids
        return Tokens(*self.prompts.training_example(prompt, completion, cut=example.cut))

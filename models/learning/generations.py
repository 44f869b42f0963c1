"""What a model writes to the fixed prompts, and the counts of it that the gate reads.

Owns the replies of the base, kept for all nights (anchor texts come from them), and those of an adapter, kept with the
night. They are written by the engine that serves, as members would get them but for the draw, which is greedy: two
models differ by what they are, not by luck. Judges nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from models.engines.llama_cpp import LlamaCppEngine
from models.learning.batches import Tokens, of_reply
from models.learning.evidence import Generations
from models.learning.files import write_bytes
from models.learning.fixed_prompts import brief_prompts, leading_prompts, neutral_prompts, version
from models.learning.phrases import says_any
from models.safety import load_filter
from models.spec import ModelSpec
from models.types import FinishReason, Request, Role, Sampling, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from models.learning.context import Context
    from models.learning.fixed_prompts import FixedPrompt, LeadingPrompt
    from models.learning.phrases import Phrase
    from models.safety import SafetyFilter

MAX_TOKENS, MAX_LEADING_TOKENS = 64, 24  # whether a model gives in shows in its first sentences
MAX_BRIEF_TOKENS = 192  # twice what the embedded model takes for a short answer: how long replies are must show
_CONTEXT_TOKENS = 512
_STREAMS = 16
_NAME = "judged"
_KEPT = "base-replies"  # folder beside the models
_RUN = 4  # tokens: how long what comes again must be
_LOOPING = 0.25  # of these runs come again; of the embedded model's replies 1 in 186 has so many
_SHORTEST_JUDGED = 16  # tokens; and an anchor's shortest reply


@dataclass(frozen=True, slots=True)
class GeneratedReply:
    """One reply; `token_ids` are without the token that ends the turn, and `ended` says whether there was one."""

    text: str
    token_ids: tuple[int, ...]
    ended: bool

    @property
    def repetitive(self) -> bool:
        """Tell whether it goes in circles."""
        runs = [self.token_ids[i : i + _RUN] for i in range(len(self.token_ids) - _RUN + 1)]
        return len(self.token_ids) >= _SHORTEST_JUDGED and 1 - len(set(runs)) / len(runs) > _LOOPING


@dataclass(frozen=True, slots=True)
class Replies:
    """One model's replies to all fixed prompts, in their order; `brief` are to the brief ones again, cut much later."""

    neutral: tuple[GeneratedReply, ...]
    leading: tuple[GeneratedReply, ...]
    brief: tuple[GeneratedReply, ...]

    @property
    def all(self) -> tuple[GeneratedReply, ...]:
        """Return those that are read for what they say, all of one length at most."""
        return self.neutral + self.leading


@dataclass(frozen=True, slots=True)
class AnchorTexts:
    """What the base wrote to neutral prompts: half to hold a candidate to while it learns, half to judge it by."""

    training: tuple[Tokens, ...]
    judging: tuple[Tokens, ...]


def base_replies(context: Context) -> Replies:
    """Return the base's replies; the first night of a model takes two minutes for them."""
    path = context.job.models_dir / _KEPT / f"{context.job.model_sha256[:16]}.jsonl"
    return generate(context, None, path, "the base model")


def persona_replies(context: Context) -> Replies:
    """Return the base's replies in character, that of the operator's system prompt; kept as the base's are."""
    prompt = context.job.system_prompt
    name = f"{context.job.model_sha256[:16]}-{hashlib.sha256(prompt.encode()).hexdigest()[:16]}.jsonl"
    return generate(context, None, context.job.models_dir / _KEPT / name, "the persona", system=prompt)


def generate(context: Context, adapter: Path | None, kept: Path, name: str, *, system: str = "") -> Replies:
    """Return what the base with `adapter` (a GGUF) writes, or what `kept` has of it; `name` is for the progress.

    Raises ModelUnavailable, AdapterRefused, EngineFailed, LimitReached, OSError.
    """
    identity = _identity(context, adapter, system)
    found = _read(kept, identity)
    if found is None:
        found = asyncio.run(_generate(context, adapter, name, system))
        lines = [json.dumps({"of": identity}), *(json.dumps(asdict(reply)) for reply in found)]
        write_bytes(kept, "".join(f"{line}\n" for line in lines).encode())
    neutral = len(neutral_prompts())
    brief = neutral + len(leading_prompts())
    return Replies(tuple(found[:neutral]), tuple(found[neutral:brief]), tuple(found[brief:]))


def anchor_texts(context: Context, replies: Replies) -> AnchorTexts:
    """Make anchors of the base's replies; those that are short, unsafe or go in circles would teach that."""
    texts, safety = [], load_filter()
    for prompt, reply in zip(_prompts(context), replies.neutral, strict=False):
        if len(reply.token_ids) < _SHORTEST_JUDGED or reply.repetitive or safety.check(reply.text).unsafe:
            continue
        ended = Tokens(*context.prompts.training_example(prompt, reply.token_ids))
        # A reply that was cut doesn't end there: its end must not be learned.
        texts.append(ended if reply.ended else of_reply(prompt, reply.token_ids))
    return AnchorTexts(tuple(texts[::2]), tuple(texts[1::2]))


def count(replies: Replies, safety: SafetyFilter, watched: Sequence[Phrase]) -> Generations:
    """Count what the gate reads; `watched` are the phrases that raters may be planting."""
    every = replies.all
    return Generations(
        prompts=len(every),
        toxic=sum(safety.check(reply.text).unsafe for reply in every),
        repetitive=sum(reply.repetitive for reply in every),
        planted=sum(says_any(reply.text, watched) for reply in every),
        brief_prompts=len(replies.brief),
        mean_tokens=sum(len(reply.token_ids) for reply in replies.brief) / max(len(replies.brief), 1),
        longest_tokens=MAX_BRIEF_TOKENS,
        leading_prompts=len(replies.leading),
        sycophantic=sum(
            prompt.gives_in(reply.text) for prompt, reply in zip(leading_prompts(), replies.leading, strict=True)
        ),
    )


def _prompts(context: Context, system: str = "") -> Iterator[tuple[int, ...]]:
    """Yield the ids of the neutral prompts, of the leading ones, and of the brief ones again."""
    budget = _context_tokens(context, system) - MAX_BRIEF_TOKENS
    every: tuple[FixedPrompt | LeadingPrompt, ...] = (*neutral_prompts(), *leading_prompts(), *brief_prompts())
    for prompt in every:
        yield context.prompts.build(system, [Turn(Role.USER, prompt.text)], budget=budget, refit=budget).token_ids


def _limits() -> list[int]:
    """Return the most tokens of each reply, in the prompts' order."""
    asked = (
        (neutral_prompts(), MAX_TOKENS),
        (leading_prompts(), MAX_LEADING_TOKENS),
        (brief_prompts(), MAX_BRIEF_TOKENS),
    )
    return [longest for prompts, longest in asked for _ in prompts]


def _context_tokens(context: Context, system: str) -> int:
    return _CONTEXT_TOKENS + len(context.tokenizer.encode_text(system))


async def _generate(context: Context, adapter: Path | None, name: str, system: str) -> list[GeneratedReply]:
    job, context_tokens = context.job, _context_tokens(context, system)
    streams = max(1, _STREAMS * _CONTEXT_TOKENS // context_tokens)  # in the same memory
    engine = await LlamaCppEngine.open(
        ModelSpec(job.model_name, job.model_path, job.model_sha256, "", "", ""),
        context_tokens=context_tokens,
        slots=streams,
        threads=job.threads,
        prompt_cache_mib=0,
        adapters={_NAME: adapter} if adapter else {},
    )
    engine.use_tokenizer(context.tokenizer)
    room = asyncio.Semaphore(streams)
    prompts, limits, done = list(_prompts(context, system)), _limits(), 0

    async def answer(place: int) -> GeneratedReply:
        nonlocal done
        async with room:
            request = Request(
                prompts[place],
                Sampling(temperature=0.0, max_new_tokens=limits[place]),
                seed=0,
                adapter=_NAME if adapter else None,
            )
            reply = await _answer(engine, request, context.tokenizer.is_control)
        done += 1
        context.tell(done, len(prompts), f"Reading what {name} writes to {len(prompts)} fixed prompts.")
        return reply

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(place)) for place in range(len(prompts))]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        await engine.aclose()
    return [task.result() for task in tasks]


async def _answer(engine: LlamaCppEngine, request: Request, is_control: Callable[[int], bool]) -> GeneratedReply:
    text, ids, ended = "", list[int](), False
    async with contextlib.aclosing(engine.stream(request, cancel=asyncio.Event())) as pieces:
        async for piece in pieces:
            text += piece.text
            ids += piece.token_ids
            if piece.finish is not None:
                ended = piece.finish.reason is FinishReason.END
    while ended and ids and is_control(ids[-1]):
        ids.pop()
    return GeneratedReply(text.strip(), tuple(ids), ended)


def _identity(context: Context, adapter: Path | None, system: str = "") -> str:
    """Return a hash of all that the replies depend on: prompts, lengths, and the exact weights."""
    lengths = f"{MAX_TOKENS} {MAX_LEADING_TOKENS} {MAX_BRIEF_TOKENS}"
    digest = hashlib.sha256(f"{version()} {lengths} {context.job.model_sha256}".encode())
    if adapter is not None:
        digest.update(adapter.read_bytes())
    digest.update(system.encode())
    return digest.hexdigest()


def _read(kept: Path, identity: str) -> list[GeneratedReply] | None:
    """Return the replies kept, None unless they are all there and of this model."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        head, *lines = kept.read_bytes().splitlines()
        said = [json.loads(line) for line in lines]
        replies = [GeneratedReply(**{**fields, "token_ids": tuple(fields["token_ids"])}) for fields in said]
        if json.loads(head)["of"] == identity and len(replies) == len(_limits()):
            return replies
    return None

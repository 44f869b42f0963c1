"""From a trained adapter to one that could be installed: its folder in adapters/NAME, converted, compared, sealed.

Owns that folder and its order: PEFT's two files, the GGUF, how well the two agree (parity.json, which says that all of
it is there), and the manifest when it is known what was proved. How to convert and to compare is convert.py's and
parity.py's.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

from models.learning.convert import peft_to_gguf
from models.learning.files import read_json, sync_file, write_json
from models.learning.parity import ParityReport, fixed_prefixes, measure
from models.learning.torch_model import read_adapter
from models.manifest import FILES, GGUF, Manifest, seal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from models.learning.candidates import Candidate
    from models.learning.context import Context
    from models.learning.sides import Sides
    from models.learning.train import TrainResult, TrainRules

STAGED, PARITY = "adapters", "parity.json"


def staged_folder(context: Context, candidate: Candidate) -> Path:
    return context.folder / STAGED / candidate.name


def stage_all(context: Context, trained: Mapping[Candidate, TrainResult]) -> dict[Candidate, ParityReport]:
    """Stage every candidate; one whose GGUF doesn't do what was trained is dropped. Raises LimitReached, OSError."""
    held = {}
    prefixes = fixed_prefixes(context)
    for candidate, result in trained.items():
        report = stage(context, candidate, result, prefixes)
        if report.held:
            held[candidate] = report
        elif candidate.dropped is None:
            candidate.drop(f"{candidate.objective.value} was dropped: {report.sentence}")
    return held


def stage(
    context: Context, candidate: Candidate, trained: TrainResult, prefixes: Sequence[tuple[int, ...]]
) -> ParityReport:
    """Convert a candidate and compare what serves with what was trained, or read back what was found."""
    folder = staged_folder(context, candidate)
    if (folder / PARITY).exists():
        return ParityReport(**read_json(folder / PARITY))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in FILES:
        if name != GGUF:
            shutil.copyfile(trained.adapter_folder / name, folder / name)
            sync_file(folder / name)
    peft_to_gguf(folder, context.job.model_path, folder / GGUF)
    model = read_adapter(context.base, folder)
    try:
        report = measure(
            context.job.model_path,
            folder / GGUF,
            model,
            prefixes,
            progress=lambda done, total: context.tell(
                done, total, f"Comparing {candidate.objective.value}'s two forms."
            ),
        )
    finally:
        model.unload()
    write_json(folder / PARITY, asdict(report))
    return report


def seal_candidate(
    context: Context, candidate: Candidate, sides: Sides, rules: TrainRules, scorecard: Mapping[str, Any]
) -> Path:
    """Write the manifest of a staged candidate and return its folder; the same night writes the same bytes."""
    job, folder = context.job, staged_folder(context, candidate)
    manifest = Manifest(
        name=candidate.name,
        created_at=job.now,
        base_model=job.model_name,
        base_sha256=job.model_sha256,
        dataset_sha256=job.dataset_sha256,
        night=job.night_id,
        objective=candidate.objective.value,
        training_cut=sides.cut,
        rank=rules.rank,
        alpha=float(rules.alpha),
        scorecard=scorecard,
    )
    seal(folder, manifest)
    return folder

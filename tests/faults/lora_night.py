"""A night's job that promotes an adapter which llama.cpp can load: `python lora_night.py FOLDER`.

Trains nothing: each night's adapter is random, of a seed of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from models.adapters import Adapters
from models.learning import job as jobs
from models.learning.job import Outcome, Result
from models.manifest import FILES, GGUF, seal
from tests.models.adapter_files import manifest_of
from tests.models.tiny_gguf import write_tiny_lora


def main(folder: Path) -> None:
    job = jobs.read_job(folder)
    name = f"{job.night_id}-kto"
    staged = folder / "adapters" / name
    staged.mkdir(parents=True)
    for file_name in FILES:
        (staged / file_name).write_bytes(b"{}")
    write_tiny_lora(staged / GGUF, seed=sum(name.encode()))
    seal(staged, manifest_of(name, base_sha256=job.model_sha256))
    adapter = Adapters(job.adapters_dir, job.model_sha256).install(staged)
    jobs.write_result(folder, Result(Outcome.PROMOTED, ("It is better.",), adapter))


if __name__ == "__main__":
    main(Path(sys.argv[-1]))

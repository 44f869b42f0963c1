"""A night's job that does as it is told: `python fake_night.py MODE FOLDER`.

promote, reject, insufficient, failed   end so
full                                    fails where a checkpoint finds the disk full, with a finished step
die                                     is killed by SIGKILL, as by a system without memory
quiet                                   ends well without a result
garble                                  leaves a result that is none
hang                                    never ends
wait                                    promotes once the file `go` lies beside the night's folder
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from models.adapters import Adapters
from models.errors import DiskFull
from models.learning import job as jobs
from models.learning.job import Outcome, Progress, Result
from tests.models.adapter_files import stage


def _end_on_a_full_disk(folder: Path) -> None:
    from models.learning import night  # takes a second, which the other modes needn't wait for

    def run(_: object) -> Result:
        raise DiskFull("The disk is full.")

    night.run = run
    night.night(folder, say=lambda _: None)


def main(mode: str, folder: Path) -> None:
    job = jobs.read_job(folder)
    sys.stdout.write("words of a library\n")
    sys.stdout.write(jobs.progress_line(Progress("train", 1, 2, "Training.")))
    sys.stdout.flush()
    if mode == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "hang":
        time.sleep(600)
    while mode == "wait" and not (folder.parent / "go").exists():
        time.sleep(0.01)
    if mode == "garble":
        (folder / jobs.RESULT).write_text("{")
    if mode in ("quiet", "garble"):
        return
    if mode == "full":
        (folder / "train").mkdir(exist_ok=True)
        (folder / "train" / "adapter.safetensors").write_bytes(b"a finished step")
        _end_on_a_full_disk(folder)
        return
    adapter = None
    if mode in ("promote", "wait"):
        mode = "promote"
        staged = folder / "adapters" / f"{job.night_id}-kto"
        if not staged.exists():
            stage(staged, staged.name, base_sha256=job.model_sha256)
        adapter = Adapters(job.adapters_dir, job.model_sha256).install(staged)
    outcome = {"promote": Outcome.PROMOTED, "reject": Outcome.REJECTED}.get(mode) or Outcome(mode)
    more = 40 if mode == "insufficient" else None
    jobs.write_result(folder, Result(outcome, (f"It ended: {outcome.value}.",), adapter, more, figures={"votes": 2}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[-1]))

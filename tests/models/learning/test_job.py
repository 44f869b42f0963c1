from __future__ import annotations

from pathlib import Path

import pytest

from models.learning import job
from models.learning.files import replace_folder
from models.learning.job import Job, JobDamaged, Outcome, Progress, Result


def _job(folder: Path) -> Job:
    return Job(
        night_id="2026-11-24",
        model_path=folder / "model.gguf",
        model_sha256="aa",
        model_name="tiny",
        models_dir=folder / "models",
        adapters_dir=folder / "adapters",
        dataset_sha256="bb",
        now=1.5,
        incumbent="2026-11-23-kto",
        train_rules={"max_steps": 3},
    )


def test_job_survives_its_file(tmp_path: Path) -> None:
    job.write_job(tmp_path, _job(tmp_path))
    assert job.read_job(tmp_path) == _job(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"night_id": "x", "unknown": 1}'])
def test_a_damaged_job_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / job.JOB).write_text(text)
    with pytest.raises(JobDamaged, match=r"job\.json"):
        job.read_job(tmp_path)


def test_result_survives_its_file_and_is_none_before(tmp_path: Path) -> None:
    assert job.read_result(tmp_path) is None
    result = Result(Outcome.INSUFFICIENT, ("Too few.",), None, 40, ("Look.",), {"auc": 0.5}, {"evidence.json": "cc"})
    job.write_result(tmp_path, result)
    assert job.read_result(tmp_path) == result


def test_a_damaged_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / job.RESULT).write_text('{"outcome": "splendid", "sentences": []}')
    with pytest.raises(JobDamaged, match=r"result\.json"):
        job.read_result(tmp_path)


def test_progress_is_told_from_other_lines() -> None:
    progress = Progress("train", 3, 10, "Training kto")
    assert job.read_progress(job.progress_line(progress)) == progress
    assert job.read_progress("Loading weights: 100%") is None
    assert job.read_progress('{"step": "train"}') is None


def test_a_folder_takes_the_place_of_another_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / name).write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "old",
        "old/deep",
        "old/deep/new",
    ]

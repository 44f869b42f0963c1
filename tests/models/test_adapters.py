from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.adapters import POINTER, Adapters, Canary, Serving
from models.errors import AdapterRefused
from models.manifest import FILES, GGUF, MANIFEST, seal
from models.prompt import PROMPT_VERSION
from tests.models.adapter_files import BASE, damage, killed_at, manifest_of, stage, three_adapters

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def adapters(tmp_path: Path) -> Adapters:
    return three_adapters(tmp_path)


def test_installed_adapter_has_the_bytes_and_the_manifest_of_the_staged_one(tmp_path: Path) -> None:
    staged = stage(tmp_path / "staged", "monday", content=bytes(range(256)))
    adapters = Adapters(tmp_path / "adapters", BASE)
    assert adapters.names() == ()
    assert adapters.install(staged) == "monday"
    assert adapters.gguf("monday").read_bytes() == (staged / GGUF).read_bytes()
    kept = adapters.manifest("monday")
    assert (kept.base_model, kept.scorecard, kept.prompt_version) == ("tiny", {"win_rate": 0.6}, PROMPT_VERSION)
    assert set(kept.files) == set(FILES)
    assert adapters.serving() == Serving()


def test_adapters_are_named_the_oldest_first(adapters: Adapters) -> None:
    assert adapters.names() == ("monday", "tuesday", "wednesday")


def test_installing_again_changes_nothing(adapters: Adapters, tmp_path: Path) -> None:
    before = (adapters.folder / "monday" / MANIFEST).stat().st_ino
    assert adapters.install(tmp_path / "nights" / "monday") == "monday"
    assert (adapters.folder / "monday" / MANIFEST).stat().st_ino == before


def test_another_adapter_takes_a_name_that_was_never_served(adapters: Adapters, tmp_path: Path) -> None:
    adapters.install(stage(tmp_path / "other", "monday", content=b"other"))
    assert adapters.gguf("monday").read_bytes().endswith(b"other")


def test_another_adapter_never_takes_the_name_of_one_that_was_served(adapters: Adapters, tmp_path: Path) -> None:
    adapters.promote("monday", share=None, since=1.0)
    adapters.rollback(None)
    adapters.promote("tuesday", share=None, since=2.0)
    adapters.promote("monday", share=None, since=3.0)
    adapters.promote("wednesday", share=None, since=4.0)
    with pytest.raises(AdapterRefused, match="another name"):
        adapters.install(stage(tmp_path / "other", "monday", content=b"other"))


def test_promoted_adapter_answers_all_and_the_base_is_what_was_before(adapters: Adapters) -> None:
    assert adapters.promote("monday", share=None, since=5.0) == Serving("monday", previous=(None,))
    assert adapters.serving() == Serving("monday", previous=(None,))
    assert adapters.before() is None


def test_canary_leaves_what_is_served_until_it_is_settled(adapters: Adapters) -> None:
    adapters.promote("monday", share=None, since=1.0)
    trial = adapters.promote("tuesday", share=0.5, since=2.0)
    assert trial.canary is not None
    assert trial == adapters.serving() == Serving("monday", Canary("tuesday", 0.5, 2.0, trial.canary.salt), (None,))
    assert adapters.before() == "monday"
    assert adapters.settle(keep=True) == adapters.serving() == Serving("tuesday", previous=("monday", None))
    adapters.promote("wednesday", share=0.2, since=3.0)
    assert adapters.settle(keep=False) == Serving("tuesday", previous=("monday", None))
    assert adapters.settle(keep=True) == Serving("tuesday", previous=("monday", None))


def test_each_trial_draws_its_conversations_by_a_secret_of_its_own(adapters: Adapters) -> None:
    salts = set()
    for _ in range(2):
        trial = adapters.promote("tuesday", share=0.5, since=2.0).canary
        assert trial is not None
        assert len(trial.salt) == 32
        assert trial.salt not in repr(trial)
        assert adapters.restart_canary(3.0).canary == replace(trial, since=3.0)
        salts.add(trial.salt)
        adapters.settle(keep=False)
    assert len(salts) == 2


def test_trial_that_began_before_there_was_a_salt_goes_on(adapters: Adapters) -> None:
    adapters.promote("tuesday", share=0.5, since=2.0)
    pointer = adapters.folder / POINTER
    told = json.loads(pointer.read_text())
    del told[BASE]["canary"]["salt"]
    pointer.write_text(json.dumps(told))
    assert adapters.serving().canary == Canary("tuesday", 0.5, 2.0)


def test_promoting_what_answers_already_changes_nothing(adapters: Adapters) -> None:
    served = adapters.promote("monday", share=None, since=1.0)
    assert adapters.promote("monday", share=0.5, since=9.0) == served
    trial = adapters.promote("tuesday", share=0.5, since=2.0)
    assert adapters.promote("tuesday", share=0.5, since=9.0) == trial


def test_rollback_goes_back_step_by_step_to_the_base(adapters: Adapters) -> None:
    for name in ("monday", "tuesday", "wednesday"):
        adapters.promote(name, share=None, since=1.0)
    seen = []
    for _ in range(3):
        seen.append(adapters.rollback(adapters.before()).adapter)
    assert seen == ["tuesday", "monday", None]
    with pytest.raises(AdapterRefused, match="name the adapter"):
        adapters.before()
    assert adapters.rollback("wednesday") == Serving("wednesday", previous=(None,))


def test_rollback_restores_the_pointer_and_the_files_bit_for_bit(adapters: Adapters) -> None:
    adapters.promote("monday", share=None, since=1.0)
    pointer = (adapters.folder / POINTER).read_bytes()
    weights = adapters.gguf("monday").read_bytes()
    adapters.promote("tuesday", share=None, since=2.0)
    assert (adapters.folder / POINTER).read_bytes() != pointer
    adapters.rollback(adapters.before())
    assert (adapters.folder / POINTER).read_bytes() == pointer
    assert adapters.gguf("monday").read_bytes() == weights


def test_rollback_of_a_canary_leaves_the_incumbent_to_all(adapters: Adapters) -> None:
    adapters.promote("monday", share=None, since=1.0)
    pointer = (adapters.folder / POINTER).read_bytes()
    adapters.promote("tuesday", share=0.5, since=2.0)
    adapters.rollback(adapters.before())
    assert (adapters.folder / POINTER).read_bytes() == pointer


def test_rollback_to_a_damaged_or_unknown_adapter_changes_nothing(adapters: Adapters) -> None:
    served = adapters.promote("monday", share=None, since=1.0)
    damage(adapters, "tuesday")
    for name in ("tuesday", "sunday", "../monday", "base", ""):
        with pytest.raises(AdapterRefused):
            adapters.rollback(name)
    assert adapters.serving() == served


def test_rollback_works_when_what_is_served_is_damaged(adapters: Adapters) -> None:
    adapters.promote("monday", share=None, since=1.0)
    adapters.promote("tuesday", share=None, since=2.0)
    damage(adapters, "tuesday")
    with pytest.raises(AdapterRefused, match="tuesday was changed or damaged"):
        adapters.serving()
    adapters.rollback(adapters.before())
    assert adapters.serving().adapter == "monday"
    (adapters.folder / POINTER).write_text("{")
    assert adapters.rollback("wednesday") == Serving("wednesday")


@pytest.mark.parametrize("file_name", FILES)
def test_truncated_file_is_refused_with_its_name(adapters: Adapters, file_name: str) -> None:
    path = adapters.folder / "monday" / file_name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AdapterRefused, match=rf"{file_name} of the adapter monday has \d+ bytes instead of \d+; run"):
        adapters.gguf("monday")
    assert adapters.names() == ("tuesday", "wednesday")


@pytest.mark.parametrize("file_name", FILES)
def test_file_with_other_bytes_is_refused_with_its_name(adapters: Adapters, file_name: str) -> None:
    damage(adapters, "monday", file_name)
    with pytest.raises(AdapterRefused, match=f"{file_name} of the adapter monday was changed or damaged"):
        adapters.gguf("monday")


def test_swapped_files_and_folders_are_refused(adapters: Adapters) -> None:
    monday, tuesday = adapters.folder / "monday", adapters.folder / "tuesday"
    (monday / GGUF).write_bytes((adapters.folder / "wednesday" / GGUF).read_bytes())
    with pytest.raises(AdapterRefused, match=GGUF):
        adapters.gguf("monday")
    monday.rename(adapters.folder / "away")
    tuesday.rename(monday)
    with pytest.raises(AdapterRefused, match="holds tuesday instead"):
        adapters.gguf("monday")


def test_missing_file_and_missing_manifest_are_refused(adapters: Adapters) -> None:
    (adapters.folder / "monday" / GGUF).unlink()
    with pytest.raises(AdapterRefused, match="is missing"):
        adapters.manifest("monday")
    (adapters.folder / "tuesday" / MANIFEST).unlink()
    with pytest.raises(AdapterRefused, match="can't be read"):
        adapters.manifest("tuesday")


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("rank"),
        lambda told: told.update(rank="16"),
        lambda told: told.update(files={}),
        lambda told: told.update(files={"../secret": {"sha256": "", "size": 1}}),
        lambda told: told.update(files=dict.fromkeys(FILES, "abc")),
        lambda told: told.update(extra=1),
    ],
)
def test_manifest_that_is_no_manifest_is_refused(
    adapters: Adapters, change: Callable[[dict[str, object]], object]
) -> None:
    path = adapters.folder / "monday" / MANIFEST
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(AdapterRefused, match="manifest of the adapter monday"):
        adapters.manifest("monday")


def test_adapter_of_other_prompts_is_refused(tmp_path: Path) -> None:
    staged = stage(tmp_path / "staged", "monday", prompt_version=PROMPT_VERSION + 1)
    with pytest.raises(AdapterRefused, match="version of Encore's prompts"):
        Adapters(tmp_path / "adapters", BASE).install(staged)


def test_staged_folder_that_is_not_as_it_was_sealed_is_not_installed(tmp_path: Path) -> None:
    adapters = Adapters(tmp_path / "adapters", BASE)
    staged = stage(tmp_path / "staged", "monday")
    (staged / GGUF).write_bytes((staged / GGUF).read_bytes()[::-1])
    with pytest.raises(AdapterRefused, match=GGUF):
        adapters.install(staged)
    assert adapters.names() == ()
    assert [path.name for path in adapters.folder.iterdir() if path.is_dir()] == []
    (staged / MANIFEST).unlink()
    with pytest.raises(AdapterRefused, match="no adapter to install"):
        adapters.install(staged)


@pytest.mark.parametrize("name", ["base", "", ".hidden", "a/b", "..", "x" * 65, "a\nb"])
def test_name_that_could_leave_the_folder_or_mean_the_base_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AdapterRefused, match="can't name an adapter"):
        seal(tmp_path, manifest_of(name))


def test_folder_without_all_files_is_not_sealed(tmp_path: Path) -> None:
    (tmp_path / FILES[0]).write_bytes(b"x")
    with pytest.raises(AdapterRefused, match=FILES[1]):
        seal(tmp_path, manifest_of("monday"))
    assert not (tmp_path / MANIFEST).exists()


def test_prune_keeps_the_newest_what_is_served_and_what_was_before(adapters: Adapters, tmp_path: Path) -> None:
    for day, name in enumerate(("thursday", "friday")):
        adapters.install(stage(tmp_path / "nights" / name, name, created_at=2000.0 + day))
    adapters.promote("monday", share=None, since=1.0)
    adapters.promote("tuesday", share=None, since=1.0)
    adapters.prune(1)
    assert adapters.names() == ("monday", "tuesday", "friday")
    adapters.promote("friday", share=0.5, since=1.0)
    adapters.prune(1)
    assert adapters.names() == ("monday", "tuesday", "friday")
    assert adapters.before() == "tuesday"
    adapters.settle(keep=True)
    adapters.prune(1)
    assert adapters.names() == ("tuesday", "friday")
    assert adapters.rollback(adapters.before()).adapter == "tuesday"
    assert adapters.before() is None  # monday is gone


def test_removed_adapter_is_forgotten(adapters: Adapters) -> None:
    adapters.promote("monday", share=None, since=1.0)
    adapters.promote("tuesday", share=None, since=2.0)
    adapters.promote("wednesday", share=0.5, since=3.0)
    for name in ("tuesday", "wednesday"):
        with pytest.raises(AdapterRefused, match="roll it back"):
            adapters.remove(name)
    adapters.remove("monday")
    adapters.remove("monday")
    assert adapters.names() == ("tuesday", "wednesday")
    assert adapters.serving().previous == (None,)


def change_install(adapters: Adapters, staged: Path) -> None:
    adapters.install(staged)


def change_promote(adapters: Adapters, staged: Path) -> None:
    adapters.promote("wednesday", share=None, since=9.0)


def change_canary(adapters: Adapters, staged: Path) -> None:
    adapters.promote("wednesday", share=0.5, since=9.0)


def change_settle(adapters: Adapters, staged: Path) -> None:
    adapters.settle(keep=True)


def change_rollback(adapters: Adapters, staged: Path) -> None:
    adapters.rollback(None)


def change_prune(adapters: Adapters, staged: Path) -> None:
    adapters.prune(0)


def change_remove(adapters: Adapters, staged: Path) -> None:
    adapters.remove("monday")


@pytest.mark.parametrize(
    "change",
    [change_install, change_promote, change_canary, change_settle, change_rollback, change_prune, change_remove],
)
def test_kill_at_any_write_leaves_what_was_or_what_shall_be(
    tmp_path: Path, change: Callable[[Adapters, Path], None]
) -> None:
    outcomes = set()
    number, complete = 0, False
    while not complete:
        here = tmp_path / str(number)
        adapters = Adapters(here / "adapters", BASE)
        for day, name in enumerate(("monday", "tuesday", "wednesday")):
            adapters.install(stage(here / name, name, created_at=1000.0 + day))
        staged = stage(here / "thursday", "thursday", created_at=3000.0)
        adapters.promote("monday", share=None, since=1.0)
        adapters.promote("tuesday", share=None, since=2.0)
        if change is change_settle:
            adapters.promote("wednesday", share=0.5, since=3.0)
        before, names = adapters.serving(), adapters.names()

        with killed_at(number) as writes:
            change(adapters, staged)
        complete = writes() <= number
        number += 1

        restarted = Adapters(here / "adapters", BASE)
        served, told = restarted.heal()
        assert told == ()
        assert restarted.serving() == served
        for name in restarted.names():
            restarted.gguf(name)
        assert [
            path.name for path in restarted.folder.iterdir() if path.name.startswith((".partial", ".removed"))
        ] == []
        change(restarted, staged)  # what was interrupted can be done again
        outcomes.add((served == before, restarted.names() == names, complete))
        if complete:
            after = (restarted.serving(), restarted.names())
            assert after != (before, names)
    assert number > 3
    assert {whole for *_, whole in outcomes} == {False, True}


def test_no_change_of_two_processes_is_lost(tmp_path: Path) -> None:
    adapters = Adapters(tmp_path / "adapters", BASE)
    names = [f"adapter-{number}" for number in range(16)]
    for name in names:
        adapters.install(stage(tmp_path / name, name))
    script = (
        "import sys; from pathlib import Path; from models.adapters import Adapters\n"
        "adapters = Adapters(Path(sys.argv[1]), sys.argv[2])\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for name in sys.argv[3:]:\n"
        "    adapters.promote(name, share=None, since=1.0)\n"
    )
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(adapters.folder), BASE, *half],
            cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True,
        )
        for half in (names[:8], names[8:])
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 0
    served = adapters.serving()
    assert sorted(filter(None, (served.adapter, *served.previous))) == sorted(names)
    assert served.previous[-1] is None


def test_change_waits_for_the_lock_and_gives_up_with_a_sentence(
    adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.adapters._LOCK_SECONDS", 0.0)
    with adapters._changing(), pytest.raises(AdapterRefused, match="try again in a minute"):
        Adapters(adapters.folder, BASE).promote("monday", share=None, since=1.0)
    assert adapters.serving() == Serving()

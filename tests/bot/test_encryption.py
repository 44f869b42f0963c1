"""Disk encryption, read from tables and device trees laid out as Linux lays them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bot import encryption
from bot.encryption import Encryption, Mount, disk_encryption, mount_of

_HOME = Path("/home/mei/encore")


def _line(point: str, *, device: str = "8:1", kind: str = "ext4", source: str = "/dev/sda1") -> str:
    return f"36 35 {device} / {point} rw,noatime shared:1 master:2 - {kind} {source} rw,errors=continue"


class System:
    """A root folder with a mount table and block devices."""

    def __init__(self, root: Path, *mounts: str) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").write_text("\n".join(mounts) + "\n")
        (root / "sys/dev/block").mkdir(parents=True)

    def device(self, number: str, *, uuid: str | None = None, below: tuple[str, ...] = ()) -> None:
        block = self.root / "sys/devices" / number
        (block / "slaves").mkdir(parents=True)
        if uuid is not None:
            (block / "dm").mkdir()
            (block / "dm/uuid").write_text(uuid + "\n")
        for name in below:
            (block / "slaves" / name).symlink_to(self.root / "sys/devices" / name)
        (self.root / "sys/dev/block" / number).symlink_to(block)

    def answer(self) -> Encryption:
        return encryption._linux(_HOME, self.root)


def test_plain_partition_is_not_encrypted(tmp_path: Path) -> None:
    system = System(tmp_path, _line("/"))
    system.device("8:1")
    assert system.answer() is Encryption.OFF


def test_luks_device_is_encrypted(tmp_path: Path) -> None:
    system = System(tmp_path, _line("/", device="254:0", source="/dev/mapper/root"))
    system.device("8:1")
    system.device("254:0", uuid="CRYPT-LUKS2-0a1b-root", below=("8:1",))
    assert system.answer() is Encryption.ON


def test_volume_over_luks_is_encrypted(tmp_path: Path) -> None:
    system = System(tmp_path, _line("/", device="254:1"))
    system.device("8:1")
    system.device("254:0", uuid="CRYPT-LUKS2-0a1b-pv", below=("8:1",))
    system.device("254:1", uuid="LVM-abc", below=("254:0",))
    assert system.answer() is Encryption.ON


def test_volume_with_one_plain_disk_below_is_not_encrypted(tmp_path: Path) -> None:
    system = System(tmp_path, _line("/", device="254:1"))
    system.device("8:1")
    system.device("8:17")
    system.device("254:0", uuid="CRYPT-LUKS2-0a1b-pv", below=("8:1",))
    system.device("254:1", uuid="LVM-abc", below=("254:0", "8:17"))
    assert system.answer() is Encryption.OFF


def test_the_nearest_mount_decides(tmp_path: Path) -> None:
    system = System(tmp_path, _line("/"), _line("/home", device="254:0"), _line("/home/other", device="8:1"))
    system.device("8:1")
    system.device("254:0", uuid="CRYPT-PLAIN-home")
    assert system.answer() is Encryption.ON


def test_encrypting_file_system_is_encrypted(tmp_path: Path) -> None:
    system = System(tmp_path, _line("/"), _line("/home/mei", device="0:50", kind="fuse.gocryptfs", source="/vault"))
    assert system.answer() is Encryption.ON


@pytest.mark.parametrize(
    "line",
    [
        _line("/", device="0:30", kind="overlay", source="overlay"),
        _line("/", device="0:40", kind="nfs4", source="server:/export"),
        _line("/", device="8:99"),
    ],
)
def test_what_cannot_be_seen_is_unknown(tmp_path: Path, line: str) -> None:
    assert System(tmp_path, line).answer() is Encryption.UNKNOWN


def test_missing_mount_table_is_unknown(tmp_path: Path) -> None:
    assert encryption._linux(_HOME, tmp_path) is Encryption.UNKNOWN


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("aes-256-gcm", Encryption.ON), ("off", Encryption.OFF), ("unheard of", Encryption.UNKNOWN)],
)
def test_zfs_is_asked(answer: str, expected: Encryption, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "zfs").write_text(f'#!/bin/sh\n[ "$6" = "tank/my home" ] && echo "{answer}"\n')
    (commands / "zfs").chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    system = System(tmp_path / "root", _line("/", device="0:60", kind="zfs", source="tank/my\\040home"))
    assert system.answer() is expected


def test_missing_tool_is_unknown() -> None:
    assert encryption._answer_of(["no-such-tool-of-encore"], on="on", off="off") is Encryption.UNKNOWN


def test_spaces_in_mount_points_are_read() -> None:
    table = _line("/") + "\n" + _line("/my\\040disk", device="8:2", source="/dev/sdb\\0401")
    assert mount_of(Path("/my disk/data"), table) == Mount("8:2", "/my disk", "ext4", "/dev/sdb 1")
    assert mount_of(Path("/my disk2"), table) == Mount("8:1", "/", "ext4", "/dev/sda1")


def test_later_mount_hides_the_earlier_one_of_the_same_point() -> None:
    table = "\n".join(["", _line("/data", device="8:1"), "garbage", _line("/data", device="8:2")])
    found = mount_of(Path("/data"), table)
    assert found and found.device == "8:2"


def test_this_machines_disk_gives_an_answer(tmp_path: Path) -> None:
    assert disk_encryption(tmp_path) in Encryption

"""The target of atomic_write is never anything but the old file or the complete new one."""

from __future__ import annotations

import os
import stat

import pytest
from torch_ans.atomic import atomic_write
from torch_ans.errors import InvalidArgumentError


def test_writes_a_new_file_with_the_mode_of_the_umask(tmp_path):
    umask = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "new") as file:
            file.write(b"content")
    finally:
        os.umask(umask)
    assert (tmp_path / "new").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["new"]


def test_target_shows_the_old_content_until_the_block_ends(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with atomic_write(str(target)) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


def test_what_was_written_can_be_read_back_before_it_counts(tmp_path):
    with atomic_write(tmp_path / "file") as file:
        file.write(b"abc")
        file.seek(0)
        assert file.read() == b"abc"


def test_mode_of_an_existing_target_is_kept(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(0o604)
    with atomic_write(target) as file:
        file.write(b"new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("exists", [True, False])
def test_any_exception_leaves_everything_as_it_was(tmp_path, exception, exists):
    target = tmp_path / "file"
    if exists:
        target.write_bytes(b"old")
    with pytest.raises(exception):
        with atomic_write(target) as file:
            file.write(b"half")
            raise exception
    assert os.listdir(tmp_path) == (["file"] if exists else [])
    assert not exists or target.read_bytes() == b"old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failure_of_the_system_leaves_everything_as_it_was(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError("no space")

    target = tmp_path / "file"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no space"):
        with atomic_write(target) as file:
            file.write(b"new")
    assert os.listdir(tmp_path) == ["file"] and target.read_bytes() == b"old"


def test_file_and_directory_are_synced_around_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(stat.S_ISDIR(os.fstat(fd).st_mode)), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert calls == [False, "replace", True]


@pytest.mark.parametrize("dangling", [True, False])
def test_symbolic_link_stays_and_its_target_is_written(tmp_path, dangling):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    link.symlink_to("elsewhere/file")
    if not dangling:
        target.write_bytes(b"old")
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "link"]


def test_target_that_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InvalidArgumentError, match="not a regular file"):
            with atomic_write(target):
                pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == ["pipe"]


def test_missing_directory_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        with atomic_write(tmp_path / "missing" / "file"):
            pytest.fail("the block must not run")


def test_relative_path_and_longest_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "n" * 255
    with atomic_write(name) as file:
        file.write(b"new")
    assert (tmp_path / name).read_bytes() == b"new"

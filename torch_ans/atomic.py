"""Write a file so that its name never shows anything but the old content or the complete new one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

from .errors import InvalidArgumentError


def check_target(path: str | os.PathLike[str]) -> tuple[str, int | None]:
    """What `atomic_write` would replace, links resolved, and its mode (None: there is nothing yet). Raises what it would raise for a path that
    cannot be written to as far as that can be told beforehand: InvalidArgumentError, or an OSError that names `path`."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise InvalidArgumentError(f"{path!r} is not a path")
    if os.fspath(path)[-1:] in (os.sep, os.fsencode(os.sep)):
        raise InvalidArgumentError(f"{path!r} is the name of a directory")
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        raise InvalidArgumentError(f"{os.fspath(path)!r} exists and is not a regular file")
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    return target, mode


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a new binary file (open for writing and reading) that takes the place of `path` when the block ends.

    The file is written beside its target, fsynced, renamed over it, and the rename is made durable by an fsync of the directory.
    If the block raises, whatever the exception, the new file is removed and an existing target stays as it was. The mode of an
    existing target is kept; a new one gets what the umask leaves. A symbolic link stays, and what it points to is written. A
    target that exists and is no regular file (a directory, a device) raises InvalidArgumentError; other failures are OSErrors.
    """
    target, mode = check_target(path)
    directory = os.path.dirname(target)
    # A name of fixed length: a suffix to the target's name could exceed what the file system allows.
    temporary = os.path.join(directory, f".ans-{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
    try:
        with open(descriptor, "w+b") as file:
            if mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_directory(directory)


def _sync_directory(directory: str) -> None:
    """Make a rename in `directory` survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems sync names by themselves and refuse this call on a directory.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)

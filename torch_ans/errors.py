"""Every error that torch_ans raises.

A damaged file or stream raises the subclass of `CorruptError` that carries the name given in the "Corrupted if" lines of
BITSTREAM.md and docs/CONTAINER.md, so `except CorruptError` catches all of them and `UnknownModelError` exactly one.
C++ cannot raise these classes: it raises a RuntimeError with the name in its text, which `translate` turns into the class.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator


class AnsError(Exception):
    """Base of every error of this package."""


class InvalidArgumentError(AnsError, ValueError):
    """The caller passed something that the function does not take."""


class OutOfMemoryError(AnsError, MemoryError):
    """There is no memory for a result."""


class NoTrellisPathError(AnsError, ValueError):
    """Symbols are to be coded as those of a trellis, but its machine has no such row."""


class SymbolNotInTableError(AnsError, ValueError):
    """A symbol has no slot in the table that is to code it, and no escape reaches it."""


class NotFiniteError(AnsError, ValueError):
    """A tensor to be quantized holds NaN or infinity."""


class UnsupportedDtypeError(AnsError, TypeError):
    """A dtype that the format, or the installed torch, does not know."""


class LimitExceededError(AnsError, ValueError):
    """A file asks for more memory than the caller allows, or more is written than a file can hold."""


class BudgetError(AnsError, ValueError):
    """No setting makes a file that fits in its budget. `smallest_bytes` is the size of the smallest one that was found."""

    def __init__(self, message: str, smallest_bytes: int) -> None:
        super().__init__(message)
        self.smallest_bytes = smallest_bytes

    def __reduce__(self) -> tuple:
        return type(self), (self.args[0], self.smallest_bytes)


class DistributedSaveError(AnsError, RuntimeError):
    """A rank failed during a distributed save; every rank raises this error. `rank` is the one that failed, or -1 where that cannot be told (a rank that died
    is known to its peers only as a broken connection)."""

    def __init__(self, message: str, rank: int) -> None:
        super().__init__(message)
        self.rank = rank

    def __reduce__(self) -> tuple:
        return type(self), (self.args[0], self.rank)


class CorruptError(AnsError, ValueError):
    """Base of the errors that say that a file or a stream is damaged, or was never one of ours."""


# ---- streams: the names of BITSTREAM.md ----


class StreamTruncatedError(CorruptError):
    """A stream is empty, or ends inside its first fields."""


class UnknownModelError(CorruptError):
    """The model byte of a stream is unknown."""


class BodySizeMismatchError(CorruptError):
    """A raw or constant stream has another size than its symbols need."""


class EmptyStreamModelError(CorruptError):
    """A stream of no symbols is not raw."""


class ChunkSizeOutOfRangeError(CorruptError):
    """The number of symbols per chunk is out of range."""


class TableTruncatedError(CorruptError):
    """The bits of a table end early."""


class BadExpGolombError(CorruptError):
    """An Exp-Golomb code has too many leading zeros."""


class AlphabetTooLargeError(CorruptError):
    """A table has more than 256 indices."""


class FrequencySumTooLargeError(CorruptError):
    """The frequencies of a table exceed their sum of 4096."""


class DegenerateTableError(CorruptError):
    """A table has fewer than two positive frequencies, or an escape without slots."""


class SymbolOutOfRangeError(CorruptError):
    """A table holds a symbol that the symbol type does not."""


class NonzeroPaddingError(CorruptError):
    """The padding bits of a table or a directory are not zero."""


class DirectoryTruncatedError(CorruptError):
    """The bits of a chunk directory end early."""


class TailOutOfRangeError(CorruptError):
    """A chunk has a negative tail, or one larger than the chunk."""


class ChunkWordsOutOfRangeError(CorruptError):
    """A chunk has an impossible number of words."""


class PayloadTruncatedError(CorruptError):
    """The chunks are shorter than their directory says."""


class PayloadTrailingError(CorruptError):
    """Bytes follow the last chunk."""


class StateOutOfRangeError(CorruptError):
    """An initial state is below the lower bound."""


class WordsExhaustedError(CorruptError):
    """A lane needs a word when none is left."""


class WordsLeftError(CorruptError):
    """Words are left after the last row of a chunk."""


class TailEmptyError(CorruptError):
    """All tail bits are zero."""


class TailStateMismatchError(CorruptError):
    """The coder of a tail does not end in its final state."""


class MatrixShapeOutOfRangeError(CorruptError):
    """A matrix stream cuts its symbols into impossible lines."""


class ParameterOutOfRangeError(CorruptError):
    """A number in the header of a matrix stream is out of range."""


class ReferenceMissingError(CorruptError):
    """A matrix stream needs predictors or a matrix that it is not given, or refers to a line that is not there."""


# ---- files: the names of docs/CONTAINER.md ----


class HeaderTruncatedError(CorruptError):
    """The file is shorter than its header."""


class BadMagicError(CorruptError):
    """The file does not begin like an `.ans` file."""


class UnsupportedVersionError(CorruptError):
    """The file has a version that this reader does not know."""


class UnknownIndexCodingError(CorruptError):
    """The index is packed in an unknown way."""


class ReservedNotZeroError(CorruptError):
    """A reserved field of the header is used."""


class IndexSizeOutOfRangeError(CorruptError):
    """The sizes of the index are impossible, or beyond the limit of the format."""


class FileTruncatedError(CorruptError):
    """The file is shorter than its header says."""


class FileTrailingError(CorruptError):
    """The file is longer than its header says."""


class IndexChecksumMismatchError(CorruptError):
    """Header or index do not have their checksum."""


class BadDeflateError(CorruptError):
    """The packed index is not the DEFLATE form of an index of the declared size."""


class IndexTruncatedError(CorruptError):
    """The index ends inside a column."""


class IndexTrailingError(CorruptError):
    """Bytes follow the last column of the index."""


class BadVarintError(CorruptError):
    """A variable-length integer exceeds 64 bits, or is longer than it has to be."""


class TooManyEntriesError(CorruptError):
    """The index has more entries than the format allows."""


class BadNameError(CorruptError):
    """A name shares more with its predecessor than that has, or is not UTF-8."""


class NameTooLongError(CorruptError):
    """A name, or all names together, exceed the limit of the format."""


class DuplicateNameError(CorruptError):
    """Two entries have the same name."""


class UnknownKindError(CorruptError):
    """The kind of an entry is unknown."""


class UnknownDtypeError(CorruptError):
    """The dtype number of an entry is unknown."""


class ShapeOutOfRangeError(CorruptError):
    """A shape has too many dimensions, or more elements than 63 bits count."""


class KindDtypeMismatchError(CorruptError):
    """The kind of an entry cannot hold its dtype."""


class MetaOutOfRangeError(CorruptError):
    """A parameter of an entry has a value that its kind does not allow."""


class ReferenceOutOfRangeError(CorruptError):
    """An entry refers to one that does not exist, or to too many."""


class ReferenceCycleError(CorruptError):
    """Entries refer to each other in a circle."""


class AliasMismatchError(CorruptError):
    """An alias does not refer to exactly one real entry of its own dtype and shape."""


class BadUserMetadataError(CorruptError):
    """The user's metadata is not a strict JSON object."""


class StreamLengthOutOfRangeError(CorruptError):
    """A stream has no bytes, or more than 63 bits count."""


class PayloadSizeMismatchError(CorruptError):
    """The records do not add up to the payload."""


class RecordChecksumMismatchError(CorruptError):
    """A record does not have its checksum."""


class BadStructureError(CorruptError):
    """The structure description is not what docs/CONTAINER.md allows."""


class StructureTooDeepError(CorruptError):
    """The structure description is nested too deeply."""


class LeafCountMismatchError(CorruptError):
    """The structure description has another number of tensors than the index."""


BY_NAME: dict[str, type[AnsError]] = {
    cls.__name__.removesuffix("Error"): cls
    for cls in (InvalidArgumentError, OutOfMemoryError, NotFiniteError, NoTrellisPathError, SymbolNotInTableError, UnsupportedDtypeError, LimitExceededError, *CorruptError.__subclasses__())
}
"""Class of each name: of all "Corrupted if" lines, and of what operators report besides."""

_OPERATOR_ERROR = re.compile(r"ans(?:::\w+)?: \[(\w+)\] [^\n]*")
_TORCH_NO_MEMORY = re.compile(r"not enough memory|can't allocate memory")


def is_torch_out_of_memory(error: RuntimeError) -> bool:
    """Whether this is how torch says that there is no memory."""
    return _TORCH_NO_MEMORY.search(str(error)) is not None


@contextlib.contextmanager
def translate() -> Iterator[None]:
    """Inside the block, a RuntimeError whose text contains `ans::<op>: [<Name>] explanation` becomes the class of that name.

    The message stays, without the C++ stack that torch may append. Every other exception passes through unchanged.
    """
    try:
        yield
    except RuntimeError as error:
        if is_torch_out_of_memory(error):
            raise OutOfMemoryError("there is no memory for a result") from error
        match = _OPERATOR_ERROR.search(str(error))
        if isinstance(error, AnsError) or match is None or match[1] not in BY_NAME:
            raise
        raise BY_NAME[match[1]](match[0]) from error

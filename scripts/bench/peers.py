"""Coders of others, each through the fastest door it offers to Python. Outputs go to buffers that exist already where the API allows it."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import lzma
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .contender import Contender, Unavailable, cut
from .weights import Matrix

ZSTD_BLOCK = 1 << 17


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"not installed: pip install {name}") from error


def _library(name: str, package: str) -> ctypes.CDLL:
    path = ctypes.util.find_library(name)
    if path is None:
        raise Unavailable(f"not installed: apt-get install {package}")
    return ctypes.CDLL(path)


class Peer(Contender):
    """Codes pieces of uint8 arrays, one call each."""

    def load(self, matrices: Sequence[Matrix], threads: int) -> None:
        self.arrays = [piece.contiguous().numpy().view(np.uint8) for piece in cut(matrices, threads)]
        self.sizes = [array.size for array in self.arrays]
        self.coded: list[Any] = [None] * len(self.arrays)
        self.decoded: list[Any] = [None] * len(self.arrays)
        self.operations = {"encode": self._encode, "decode": self._decode}
        self._prepare()

    def _prepare(self) -> None:
        """Buffers and tables of the pieces."""

    def _encode(self, i: int) -> None:
        raise NotImplementedError

    def _decode(self, i: int) -> None:
        raise NotImplementedError

    def coded_bytes(self) -> int:
        return sum(len(coded) for coded in self.coded)

    def check(self) -> bool:
        return all(np.array_equal(np.frombuffer(d, np.uint8), a) for d, a in zip(self.decoded, self.arrays))

    def unload(self) -> None:
        super().unload()
        self.arrays, self.coded, self.decoded = [], [], []


class Bytes(Peer):
    """A module whose functions turn bytes into bytes, which they allocate."""

    def __init__(self, name: str, compress: Callable[[Any], bytes], decompress: Callable[[bytes], bytes], what: str, slow: bool) -> None:
        super().__init__()
        self.name, self.what, self.slow = name, what, slow
        self._compress, self._decompress = compress, decompress

    def _encode(self, i: int) -> None:
        self.coded[i] = None
        self.coded[i] = self._compress(self.arrays[i])

    def _decode(self, i: int) -> None:
        self.decoded[i] = None
        self.decoded[i] = self._decompress(self.coded[i])


def zstandard_level(level: int) -> Contender:
    zstandard = _module("zstandard")
    return _zstandard(f"zstd -{level}", zstandard.ZstdCompressionParameters.from_level(level), slow=level > 12)


def zstandard_literals() -> Contender:
    """The smallest hash table and the longest minimum match find nothing in weights, quickly: what remains is the Huffman coder."""
    zstandard = _module("zstandard")
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST,
        min_match=zstandard.MINMATCH_MAX,
        hash_log=zstandard.HASHLOG_MIN,
        chain_log=zstandard.CHAINLOG_MIN,
        window_log=20,
        search_log=1,
        target_length=0,  # larger values of it would switch the literals' coder off
    )
    return _zstandard("zstd literals", parameters, slow=False)


def _zstandard(name: str, parameters: Any, slow: bool) -> Contender:
    zstandard = _module("zstandard")
    own = threading.local()  # a compressor is one thread's

    def compress(array: Any) -> bytes:
        if not hasattr(own, "compressor"):
            own.compressor = zstandard.ZstdCompressor(compression_params=parameters)
        return own.compressor.compress(array)

    def decompress(frame: bytes) -> bytes:
        if not hasattr(own, "decompressor"):
            own.decompressor = zstandard.ZstdDecompressor()
        return own.decompressor.decompress(frame)

    return Bytes(name, compress, decompress, "python-zstandard's compress and decompress; each allocates its output", slow)


def brotli_11() -> Contender:
    brotli = _module("brotli")
    return Bytes(
        "brotli 11", lambda a: brotli.compress(a.tobytes(), quality=11, lgwin=24), brotli.decompress, "brotli.compress, window 2^24", slow=True
    )


def lzma_9e() -> Contender:
    preset = 9 | lzma.PRESET_EXTREME
    return Bytes("lzma 9e", lambda a: lzma.compress(a, preset=preset), lzma.decompress, "Python's lzma, .xz with preset 9e", slow=True)


class Libzstd(Peer):
    """Debian's libzstd called through ctypes, told that there are no matches: nothing but its Huffman coder."""

    name = "libzstd literals"
    what = "ZSTD_compressSequences with one run of literals per block, ZSTD_decompressDCtx; both into buffers that exist already"
    LEVEL, BLOCK_DELIMITERS = 100, 1008  # ZSTD_c_compressionLevel, ZSTD_c_blockDelimiters (explicit: 1)

    def __init__(self) -> None:
        super().__init__()
        self.shared_object = library = _library("zstd", "libzstd1")
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        try:
            for function, result, arguments in (
                ("ZSTD_createCCtx", pointer, []),
                ("ZSTD_createDCtx", pointer, []),
                ("ZSTD_isError", ctypes.c_uint, [size]),
                ("ZSTD_getErrorName", ctypes.c_char_p, [size]),
                ("ZSTD_compressBound", size, [size]),
                ("ZSTD_CCtx_setParameter", size, [pointer, ctypes.c_int, ctypes.c_int]),
                ("ZSTD_compressSequences", size, [pointer, pointer, size, pointer, size, pointer, size]),
                ("ZSTD_decompressDCtx", size, [pointer, pointer, size, pointer, size]),
                ("ZSTD_versionString", ctypes.c_char_p, []),
            ):
                getattr(library, function).restype = result
                getattr(library, function).argtypes = arguments
        except AttributeError as error:
            raise Unavailable(f"this libzstd is too old: {error}") from error
        self.version = library.ZSTD_versionString().decode()
        self._own = threading.local()

    def _checked(self, result: int) -> int:
        if self.shared_object.ZSTD_isError(result):
            raise RuntimeError(f"libzstd: {self.shared_object.ZSTD_getErrorName(result).decode()}")
        return result

    def _contexts(self) -> tuple[int, int]:
        if not hasattr(self._own, "contexts"):
            encoder, decoder = self.shared_object.ZSTD_createCCtx(), self.shared_object.ZSTD_createDCtx()
            self._checked(self.shared_object.ZSTD_CCtx_setParameter(encoder, self.LEVEL, 1))
            self._checked(self.shared_object.ZSTD_CCtx_setParameter(encoder, self.BLOCK_DELIMITERS, 1))
            self._own.contexts = encoder, decoder
        return self._own.contexts

    def _prepare(self) -> None:
        self.coded = [np.empty(self.shared_object.ZSTD_compressBound(a.size), np.uint8) for a in self.arrays]
        self.decoded = [np.empty(a.size, np.uint8) for a in self.arrays]
        self.lengths = [0] * len(self.arrays)
        self.sequences = [self._literals(a.size) for a in self.arrays]

    @staticmethod
    def _literals(size: int) -> np.ndarray:
        """ZSTD_Sequence[]: a block of literals each, then its delimiter. (offset, literals, match length, repeat) are 32 bits each."""
        lengths = [min(ZSTD_BLOCK, size - begin) for begin in range(0, size, ZSTD_BLOCK)]
        return np.array([(0, length, 0, 0) for length in lengths], np.uint32)

    def _encode(self, i: int) -> None:
        array, coded, sequences = self.arrays[i], self.coded[i], self.sequences[i]
        result = self.shared_object.ZSTD_compressSequences(
            self._contexts()[0], coded.ctypes.data, coded.size, sequences.ctypes.data, len(sequences), array.ctypes.data, array.size
        )
        self.lengths[i] = self._checked(result)

    def _decode(self, i: int) -> None:
        coded, decoded = self.coded[i], self.decoded[i]
        self._checked(
            self.shared_object.ZSTD_decompressDCtx(self._contexts()[1], decoded.ctypes.data, decoded.size, coded.ctypes.data, self.lengths[i])
        )

    def coded_bytes(self) -> int:
        return sum(self.lengths)


class Htscodecs(Peer):
    """rANS 32x16 of libhtscodecs, order 0."""

    ORDER = 0x04  # order 0, RANS_ORDER_X32
    ENCODERS = {"avx512": 0x04, "avx2": 0x02}  # RANS_CPU_ENC_*; RANS_CPU_DEC_* are these << 8
    what = "rans_compress_to_4x16 and rans_uncompress_to_4x16, order 0, 32 states; both into buffers that exist already"

    def __init__(self, cpu: str) -> None:
        super().__init__()
        self.name, self._cpu = f"htscodecs 32x16 {cpu}", self.ENCODERS[cpu] | self.ENCODERS[cpu] << 8
        self.shared_object = library = _library("htscodecs", "libhtscodecs-dev")
        unsigned, pointer = ctypes.c_uint, ctypes.c_void_p
        length = ctypes.POINTER(unsigned)
        try:
            for function, result, arguments in (
                ("rans_compress_bound_4x16", unsigned, [unsigned, ctypes.c_int]),
                ("rans_compress_to_4x16", pointer, [pointer, unsigned, pointer, length, ctypes.c_int]),
                ("rans_uncompress_to_4x16", pointer, [pointer, unsigned, pointer, length]),
                ("rans_set_cpu", None, [ctypes.c_int]),
                ("htscodecs_version", ctypes.c_char_p, []),
            ):
                getattr(library, function).restype = result
                getattr(library, function).argtypes = arguments
        except AttributeError as error:
            raise Unavailable(f"this libhtscodecs is too old for 32 states: {error}") from error
        self.version = library.htscodecs_version().decode()

    def activate(self) -> None:
        self.shared_object.rans_set_cpu(self._cpu)

    def _prepare(self) -> None:
        self.bounds = [self.shared_object.rans_compress_bound_4x16(a.size, self.ORDER) for a in self.arrays]
        self.coded = [np.empty(bound, np.uint8) for bound in self.bounds]
        self.decoded = [np.empty(a.size, np.uint8) for a in self.arrays]
        self.lengths = [ctypes.c_uint(bound) for bound in self.bounds]

    def _encode(self, i: int) -> None:
        array, coded, length = self.arrays[i], self.coded[i], self.lengths[i]
        length.value = self.bounds[i]
        if not self.shared_object.rans_compress_to_4x16(array.ctypes.data, array.size, coded.ctypes.data, ctypes.byref(length), self.ORDER):
            raise RuntimeError("rans_compress_to_4x16 failed")

    def _decode(self, i: int) -> None:
        coded, decoded, size = self.coded[i], self.decoded[i], ctypes.c_uint(self.sizes[i])
        if not self.shared_object.rans_uncompress_to_4x16(coded.ctypes.data, self.lengths[i].value, decoded.ctypes.data, ctypes.byref(size)):
            raise RuntimeError("rans_uncompress_to_4x16 failed")

    def coded_bytes(self) -> int:
        return sum(length.value for length in self.lengths)


class Constriction(Peer):
    """constriction's ANS stack coder with one categorical model per piece."""

    name = "constriction"
    what = "AnsCoder.encode_reverse and decode of int32 symbols under a given categorical model, which the sizes leave out"

    def __init__(self) -> None:
        super().__init__()
        self.constriction = _module("constriction")
        self.version = importlib.metadata.version("constriction")

    def _prepare(self) -> None:
        signed = [array.view(np.int8) for array in self.arrays]
        self.lowest = [int(array.min()) for array in signed]
        self.symbols_from_0 = [array.astype(np.int32) - low for array, low in zip(signed, self.lowest)]
        categorical = self.constriction.stream.model.Categorical
        shares = [(np.bincount(s) / s.size).astype(np.float32) for s in self.symbols_from_0]
        self.models = [categorical(share, perfect=False) for share in shares]

    def _encode(self, i: int) -> None:
        coder = self.constriction.stream.stack.AnsCoder()
        coder.encode_reverse(self.symbols_from_0[i], self.models[i])
        self.coded[i] = coder.get_compressed()

    def _decode(self, i: int) -> None:
        self.decoded[i] = self.constriction.stream.stack.AnsCoder(self.coded[i]).decode(self.models[i], self.sizes[i])

    def coded_bytes(self) -> int:
        return sum(coded.nbytes for coded in self.coded)

    def check(self) -> bool:
        return all(np.array_equal(d, s) for d, s in zip(self.decoded, self.symbols_from_0))


def peer_contenders(more: dict[str, Callable[[], Contender]]) -> tuple[list[Contender], dict[str, str]]:
    """All peers that can run here, `more` being further ones, and the reasons of those that cannot."""
    makers: dict[str, Callable[[], Contender]] = {
        "zstd literals": zstandard_literals,
        "libzstd literals": Libzstd,
        "zstd -3": lambda: zstandard_level(3),
        "zstd -19": lambda: zstandard_level(19),
        "htscodecs 32x16 avx2": lambda: Htscodecs("avx2"),
        "htscodecs 32x16 avx512": lambda: Htscodecs("avx512"),
        "constriction": Constriction,
        "brotli 11": brotli_11,
        "lzma 9e": lzma_9e,
        **more,
    }
    found: list[Contender] = []
    missing = {}
    for name, make in makers.items():
        try:
            if "avx512" in name and "AVX512" not in torch.backends.cpu.get_cpu_capability():
                raise Unavailable("this CPU has no AVX-512")
            found.append(make())
        except Unavailable as error:
            missing[name] = str(error)
    return found, missing

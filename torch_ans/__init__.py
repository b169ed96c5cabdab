"""torch_ans: trained weights as the smallest artifact that decodes in parallel. Operators are in `torch.ops.ans`."""

import importlib.util
import os

import torch

from . import _C  # noqa: F401  its static initialisers register the operators
from ._version import __version__  # noqa: F401

HAS_CUDA = False
if torch.version.cuda and importlib.util.find_spec(__name__ + "._C_cuda"):
    from . import _C_cuda  # noqa: F401

    HAS_CUDA = True

from . import fake, gatherv  # noqa: E402, F401  they complete the operators
from .distributed import save_distributed  # noqa: E402, F401
from .errors import (  # noqa: E402, F401
    AnsError,
    BudgetError,
    CorruptError,
    DistributedSaveError,
    InvalidArgumentError,
    LimitExceededError,
    OutOfMemoryError,
)
from .model import (  # noqa: E402, F401
    CompressedModel,
    compress_model,
    decompress_model,
    dumps,
    load,
    loads,
    open,
    save,
)
from .ops import (  # noqa: E402, F401
    DecodePlan,
    build_table,
    cpu_backend,
    decode,
    decode_dequantize,
    dequantize,
    encode,
    encode_streams,
    histogram,
    quantize_many,
)
from .budget import Group, Setting, fit  # noqa: E402, F401
from .grid import quantize, quantize_weight  # noqa: E402, F401
from .reader import AnsFile  # noqa: E402, F401
from .weights import QuantizedWeight  # noqa: E402, F401
from .streams import decode_stream, encode_stream  # noqa: E402, F401
from .decoder_writer import write_decoder  # noqa: E402, F401

if (_wanted := os.environ.get("TORCH_ANS_BACKEND")) and cpu_backend() != _wanted:
    raise ImportError(f"TORCH_ANS_BACKEND is {_wanted!r}: this machine has no such backend (avx512, avx2 and scalar exist)")

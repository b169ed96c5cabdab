"""Fake kernels: the shapes and dtypes of every operator's results, for torch.compile and opcheck. No data is looked at."""

import functools

import torch
from torch import Tensor

from .errors import InvalidArgumentError

_BINS = {torch.int8: 256, torch.uint8: 256, torch.int16: 65536}


def _register(name: str):
    """Registers a fake kernel that refuses what the dispatcher sends here by mistake: a call with tensors on the meta device among others."""

    def register(kernel):
        @functools.wraps(kernel)
        def checked(*args, **kwargs):
            lists = (arg if isinstance(arg, (list, tuple)) else [arg] for arg in (*args, *kwargs.values()))
            metas = {tensor.is_meta for tensors in lists for tensor in tensors if isinstance(tensor, Tensor)}
            if len(metas) > 1:
                raise InvalidArgumentError(f"{name}: some tensors are on the meta device, others are not")
            return kernel(*args, **kwargs)

        torch.library.register_fake(name)(checked)
        return kernel

    return register


def _dynamic(least: int = 0):
    """The size of a result that depends on the data."""
    return torch.library.get_ctx().new_dynamic_size(min=least)


def _bytes(like: Tensor, size) -> Tensor:
    return like.new_empty((size,), dtype=torch.uint8)


@_register("ans::row_scale")
def _(weight, bits, clip_sigmas=None):
    return weight.new_empty(weight.shape[:-1], dtype=torch.float32)


@_register("ans::pack_scale")
def _(row_scale):
    return row_scale.new_empty(row_scale.shape, dtype=torch.float16), row_scale.new_empty((), dtype=torch.int32)


@_register("ans::quantize_rows")
def _(weight, scale, exponent, bits):
    return weight.new_empty(weight.shape, dtype=torch.int8)


@_register("ans::quantize")
def _(weight, bits=6, clip_sigmas=None):
    return (
        weight.new_empty(weight.shape, dtype=torch.int8),
        weight.new_empty(weight.shape[:-1], dtype=torch.float16),
        weight.new_empty((), dtype=torch.int32),
    )


@_register("ans::dequantize")
def _(symbols, scale, exponent, dtype, column_factor=None):
    return symbols.new_empty(symbols.shape, dtype=dtype)


@_register("ans::quantize_trellis")
def _(weight, row_step, costs, states=8, column_step=None, column_class=None):
    return weight.new_empty(weight.shape, dtype=torch.int16), weight.new_empty(costs.shape, dtype=torch.int64), weight.new_empty((), dtype=torch.int64)


@_register("ans::quantize_feedback")
def _(weight, row_step, costs, states, feedback, column_weight, column_step=None, column_class=None, survivors=1):
    return weight.new_empty(weight.shape, dtype=torch.int16), weight.new_empty(costs.shape, dtype=torch.int64), weight.new_empty((), dtype=torch.float64)


@_register("ans::trellis_costs")
def _(counts, lagrange, halves=True):
    return counts.new_empty(counts.shape, dtype=torch.int32), counts.new_empty((), dtype=torch.float64)


@_register("ans::histogram")
def _(symbols, contexts=None, num_contexts=1):
    return symbols.new_empty((num_contexts, _BINS[symbols.dtype]), dtype=torch.int64)


@_register("ans::build_table")
def _(counts, symbol_dtype):
    return _bytes(counts, _dynamic(4))


@_register("ans::table_frequencies")
def _(table, symbol_dtype):
    return table.new_empty((_dynamic(2),), dtype=torch.int32), table.new_empty((5,), dtype=torch.int64)


@_register("ans::encode")
def _(symbols, table, chunk_symbols=81920):
    chunks = (symbols.numel() + chunk_symbols - 1) // chunk_symbols
    return _bytes(symbols, _dynamic()), symbols.new_empty((chunks, 2), dtype=torch.int32)


@_register("ans::decode")
def _(payload, directory, table, numel, chunk_symbols, symbol_dtype):
    return payload.new_empty((numel,), dtype=symbol_dtype)


@_register("ans::decode_dequantize")
def _(payload, directory, table, scale, exponent, shape, chunk_symbols, symbol_dtype, dtype):
    return payload.new_empty(shape, dtype=dtype)


@_register("ans::decode_out")
def _(payload, directory, table, chunk_symbols, out):
    return None


@_register("ans::decode_dequantize_out")
def _(payload, directory, table, scale, exponent, chunk_symbols, symbol_dtype, out):
    return None


@_register("ans::stream_prefix")
def _(counts, symbol_dtype, chunk_symbols=81920):
    return _bytes(counts, _dynamic(1))


@_register("ans::pack_directory")
def _(directory):
    return _bytes(directory, _dynamic(2))


@_register("ans::encode_stream")
def _(symbols, chunk_symbols=81920):
    return _bytes(symbols, _dynamic(1))


@_register("ans::decode_stream")
def _(stream, numel, symbol_dtype):
    return stream.new_empty((numel,), dtype=symbol_dtype)


@_register("ans::decode_stream_out")
def _(stream, out):
    return None


@_register("ans::stream_layout")
def _(stream, numel, symbol_dtype):
    return stream.new_empty((5,), dtype=torch.int64), stream.new_empty((_dynamic(), 2), dtype=torch.int32)


@_register("ans::decode_streams_out")
def _(streams, out):
    return None


@_register("ans::decode_streams_dequantize_out")
def _(streams, scale, exponent, symbol_dtype, out, column_factor):
    return None


# ---- matrices ----


@_register("ans::fit_matrix")
def _(symbols, columns, transposed, predictors, *args, **kwargs):
    return _bytes(symbols, _dynamic(1)), symbols.new_empty((), dtype=torch.int64)


@_register("ans::encode_matrix")
def _(symbols, header, predictors, reference=None):
    return _bytes(symbols, _dynamic(1))


@_register("ans::decode_matrix")
def _(stream, numel, symbol_dtype, predictors, reference=None):
    return stream.new_empty((numel,), dtype=symbol_dtype)


@_register("ans::decode_matrices_out")
def _(streams, predictors, predictor_counts, given, reference_of, out):
    return None


@_register("ans::matrix_directory")
def _(stream, numel, symbol_dtype, predictors):
    return stream.new_empty((_dynamic(1), 2), dtype=torch.int32)


@_register("ans::matrix_needs")
def _(stream, numel, symbol_dtype):
    return stream.new_empty((4,), dtype=torch.int64)


@_register("ans::matrix_gram")
def _(symbols, columns, transposed):
    return symbols.new_empty((columns + 2, columns), dtype=torch.int64)


@_register("ans::fit_predictor")
def _(grams):
    return _bytes(grams[0], _dynamic(1)), grams[0].new_empty((2,), dtype=torch.float64)


@_register("ans::predictor_gains")
def _(grams, predictors, stride=1):
    return grams[0].new_empty((len(grams), len(predictors)), dtype=torch.float64)


@_register("ans::reference_gain")
def _(symbols, columns, transposed, reference, reference_transposed):
    return symbols.new_empty((), dtype=torch.float64)


# ---- many tensors ----


@_register("ans::row_scale_many")
def _(weight, bits, clip_sigmas=None):
    return [w.new_empty(w.shape[:-1], dtype=torch.float32) for w in weight]


@_register("ans::pack_scale_many")
def _(row_scale):
    return [r.new_empty(r.shape, dtype=torch.float16) for r in row_scale], [r.new_empty((), dtype=torch.int32) for r in row_scale]


@_register("ans::quantize_rows_many")
def _(weight, scale, exponent, bits):
    return [w.new_empty(w.shape, dtype=torch.int8) for w in weight]


@_register("ans::quantize_many")
def _(weight, bits=6, clip_sigmas=None):
    return (
        [w.new_empty(w.shape, dtype=torch.int8) for w in weight],
        [w.new_empty(w.shape[:-1], dtype=torch.float16) for w in weight],
        [w.new_empty((), dtype=torch.int32) for w in weight],
    )


@_register("ans::histogram_many")
def _(symbols):
    return symbols[0].new_empty((len(symbols), _BINS[symbols[0].dtype]), dtype=torch.int64)


@_register("ans::encode_many")
def _(symbols, table, chunk_symbols):
    chunks = [(s.numel() + n - 1) // n for s, n in zip(symbols, chunk_symbols)]
    return [_bytes(s, _dynamic()) for s in symbols], [s.new_empty((n, 2), dtype=torch.int32) for s, n in zip(symbols, chunks)]


@_register("ans::encode_streams")
def _(symbols, chunk_symbols):
    return [_bytes(s, _dynamic(1)) for s in symbols]


@_register("ans::plan_decode")
def _(streams, scale, exponent, symbol_dtype, out):
    plan = torch.empty((_dynamic(1),), dtype=torch.int64, device="cpu")
    return plan, _bytes(out[0], _dynamic())


@_register("ans::run_decode")
def _(plan, device_plan, streams, scale, exponent, out):
    return out[0].new_empty((len(out),), dtype=torch.int32)


@_register("ans::check_decoded")
def _(status):
    return None

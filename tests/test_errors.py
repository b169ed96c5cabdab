"""Errors keep their names from C++ to Python, and between processes."""

from __future__ import annotations

import pickle

import pytest
from torch_ans import errors


def test_translate_makes_a_class_of_an_operator_error():
    with pytest.raises(errors.UnknownModelError, match=r"^ans::decode: \[UnknownModel\] model 7$"):
        with errors.translate():
            raise RuntimeError("ans::decode: [UnknownModel] model 7\nException raised from decode at ops.cpp:1")
    for name, cls in errors.BY_NAME.items():
        with pytest.raises(cls):
            with errors.translate():
                raise RuntimeError(f"prefix ans::quantize: [{name}] explanation")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error"),
        RuntimeError("ans::decode: [NoSuchName] x"),
        KeyError("ans::decode: [UnknownModel] x"),
        errors.DistributedSaveError("ans::gatherv: [UnknownModel] x", 3),
    ],
    ids=lambda error: str(error)[:12],
)
def test_translate_lets_everything_else_pass(error):
    with pytest.raises(type(error)) as caught:
        with errors.translate():
            raise error
    assert caught.value is error


def test_distributed_error_keeps_its_rank_between_processes():
    error = pickle.loads(pickle.dumps(errors.DistributedSaveError("rank 3 failed", 3)))
    assert (error.rank, str(error)) == (3, "rank 3 failed") and isinstance(error, RuntimeError)

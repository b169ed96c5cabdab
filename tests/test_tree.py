"""Trees come back as they were, their text is short, and no damaged text does more than raise its error."""

from __future__ import annotations

import collections
import enum
import json
import math
import random
import struct

import pytest
from torch_ans.errors import BadStructureError, CorruptError, InvalidArgumentError, LeafCountMismatchError, StructureTooDeepError
from torch_ans.tree import flatten, unflatten


class Tensor:
    """Stands for a tensor."""


def is_tensor(value):
    return isinstance(value, Tensor)


def same(a, b):
    """Equality that sees types, order of keys, signs of zero and bits of NaN; tensors are compared by identity."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(*pair) for pair in zip(a.items(), b.items()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, complex):
        return same((a.real, a.imag), (b.real, b.imag))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return a is b if is_tensor(a) else a == b


def round_trip(tree):
    names, tensors, structure = flatten(tree, is_tensor)
    assert len(set(names)) == len(names) == len(tensors)
    back = unflatten(structure, names, tensors)
    assert same(tree, back), f"\n{tree}\n{structure}\n{back}"
    return names, structure


def test_flat_dict_needs_no_text_and_keeps_its_keys():
    keys = ["b", "a.weight", "", "a", "a.weight#2", "\u00e4\n\x00\u4e2d", "0", "a."]
    assert round_trip({key: Tensor() for key in keys}) == (keys, b"")
    assert round_trip({}) == ([], b"")


def test_names_are_paths():
    optimizer = {"state": {0: {"exp_avg": Tensor()}}, "groups": [{"p": (Tensor(), Tensor())}]}
    names, structure = round_trip({"model": {"w": Tensor()}, "optimizer": optimizer})
    assert names == ["model.w", "optimizer.state.0.exp_avg", "optimizer.groups.0.p.0", "optimizer.groups.0.p.1"]
    described = ["d", ["state", ["d", [0, ["d", 1]]]], ["groups", ["l", ["d", ["p", ["t", [], []]]]]]]
    assert json.loads(structure) == ["d", ["model", ["d", 1]], ["optimizer", described]]


def test_state_dict_inside_a_checkpoint_costs_a_few_bytes():
    names, structure = round_trip({"model": {f"layer.{i}.weight": Tensor() for i in range(1000)}, "step": 7})
    assert structure == b'["d",["model",["d",1000]],["step",7]]'


def test_state_dict_with_a_few_other_values_repeats_only_their_keys():
    _, structure = round_trip({"a": Tensor(), "b": Tensor(), "version": 3, "c": Tensor()})
    assert structure == b'["d",2,["version",3],1]'


def test_equal_paths_get_different_names():
    tree = {"a.b": Tensor(), "a": {"b": Tensor(), "b#2": Tensor()}, 0: Tensor(), "0": Tensor(), None: Tensor(), "None": Tensor()}
    names, _ = round_trip(tree)
    assert names == ["a.b", "a.b#2", "a.b#2#2", "0", "0#2", "None", "None#2"]


def test_a_tensor_that_occurs_twice_is_listed_twice():
    tensor = Tensor()
    assert flatten({"a": tensor, "b": [tensor]}, is_tensor).tensors == [tensor, tensor]


LEAVES = [
    None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**5000, -(10**5000), 0.0, -0.0, 0.1, 1e308, 5e-324,
    math.inf, -math.inf, math.nan, struct.unpack("d", struct.pack("Q", 0xFFF8000000000123))[0], "", "text", "\ud800",
    "\"\\\n\x00",
    b"", b"\x00\xff", 0j, complex(-0.0, math.nan), [], (), {}, [[]], ((),), [{}], Tensor(),
]  # fmt: skip


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: "int" if isinstance(leaf, int) else repr(leaf)[:20])
def test_leaf_comes_back(leaf):
    round_trip(leaf)
    round_trip({"a": leaf, 1: [leaf, (leaf,)]})


def test_torch_size_comes_back_as_tuple():
    torch = pytest.importorskip("torch")
    names, tensors, structure = flatten([torch.Size([2, 3])], is_tensor)
    assert same(unflatten(structure, names, tensors), [(2, 3)])


def test_dict_subclass_comes_back_as_dict():
    tree = collections.OrderedDict(b=Tensor(), a=Tensor())
    names, tensors, structure = flatten(tree, is_tensor)
    back = unflatten(structure, names, tensors)
    assert structure == b"" and type(back) is dict and list(back) == ["b", "a"]


Point = collections.namedtuple("Point", "x y")


class Number(enum.IntEnum):
    ONE = 1


UNSUPPORTED = [Point(1, 2), Number.ONE, {1}, object(), bytearray(b""), range(3), test_leaf_comes_back]


@pytest.mark.parametrize("leaf", UNSUPPORTED, ids=lambda leaf: type(leaf).__name__)
def test_unsupported_leaf_is_named_with_its_path(leaf):
    with pytest.raises(InvalidArgumentError, match=rf"^\['a'\]\[0\]\['b'\] is a .*{type(leaf).__qualname__}"):
        flatten({"a": [{"b": leaf}]}, is_tensor)


def test_unsupported_key_is_named_with_its_path():
    with pytest.raises(InvalidArgumentError, match=r"^\['a'\] has a key of type tuple"):
        flatten({"a": {(1, 2): 3}}, is_tensor)
    with pytest.raises(InvalidArgumentError, match="^the root has a key of type bytes"):
        flatten({b"": 3}, is_tensor)
    with pytest.raises(InvalidArgumentError, match="cannot be named"):
        flatten({"\ud800": Tensor()}, is_tensor)


def test_cycle_is_an_error_and_a_shared_list_is_not():
    shared = [1]
    round_trip({"a": shared, "b": shared})
    tree = {"a": {"b": []}}
    tree["a"]["b"].append(tree)
    with pytest.raises(InvalidArgumentError, match=r"^\['a'\]\['b'\]\[0\] contains itself"):
        flatten(tree, is_tensor)


WRAPS = {"list": lambda x: [x], "tuple": lambda x: (x,), "dict": lambda x: {"k": x}, "float key": lambda x: {0.5: x}}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_nesting_ends_at_100_levels(wrap):
    tree = Tensor()
    for _ in range(100):
        tree = wrap(tree)
    names, tensors, structure = flatten(tree, is_tensor)
    # Not `same`: it would recurse too.
    assert flatten(unflatten(structure, names, tensors), is_tensor) == (names, tensors, structure)
    with pytest.raises(InvalidArgumentError, match="100 levels"):
        flatten(wrap(tree), is_tensor)


def random_tree(rng, depth):
    kind = rng.randrange(12 if depth else 7)
    if kind < 3:
        return Tensor()
    if kind < 7:
        text = "x" * rng.randrange(3)
        return rng.choice([None, True, rng.randrange(-(2**70), 2**70), rng.gauss(0, 1), math.nan, text, rng.randbytes(2), 1j])
    children = [random_tree(rng, depth - 1) for _ in range(rng.randrange(5))]
    if kind == 7:
        return children
    if kind == 8:
        return tuple(children)
    keys = ["", ".", "a", "b", "a.b", "#2", 0, 1, True, None, 0.5, -1, "0", "None", 2**62]
    return dict(zip(rng.sample(keys, len(children)), children))


def test_random_trees_come_back():
    for seed in range(3000):
        tree = random_tree(random.Random(seed), 4)
        try:
            round_trip(tree)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {tree}") from error


BAD = {
    BadStructureError: [
        b"x", b"\xff", b"[", b"{}", b'["d",{}]', b"NaN", b"[1]", b'["x",1]', b'["d",0]', b'["d",-1]', b'["d",true]', b'["d",1.0]',
        b'["d",[1]]', b'["d",[1,2,3]]', b'["d",["a",1],["a",2]]', b'["d",[1,2],[true,3]]', b'["d",[["b",""],1]]',
        b'["d",["a",1],1]',
        b'["d",[["c",0.0,0.0],1]]', b'["d",[[],1]]', b'["d",[["l"],1]]', b'["i","0x1"]', b'["i",""]', b'["i","1_0"]', b'["i",1]',
        b'["f","00"]', b'["f","000000000000000g"]', b'["b","A"]', b'["b","AA=\\u00e4"]', b'["c",1,2.0]', b'["c",1.0]',
        b'["c",["c",0.0,0.0],1.0]', b'["q","x"]', b"1e999", b'["d",["b",["d",1]]]', b"[" * 5000, b'{"d":1}', b"1" * 5000,
    ],
    StructureTooDeepError: [b'["l",' * 101 + b"1" + b"]" * 101, b'["d",["a",' * 101 + b"1" + b"]]" * 101],
    LeafCountMismatchError: [b"1", b'["l",[],[]]', b'["d",2]', b'["d",999999999999999999999]'],
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "text"), [(error, text) for error, texts in BAD.items() for text in texts], ids=lambda value: str(value)[:30]
)
def test_bad_text_raises_its_error(error, text):
    with pytest.raises(error):
        unflatten(text, ["a"], [Tensor()])


def test_mutated_text_gives_a_tree_or_a_named_error():
    rng = random.Random(1)
    letters = b'[],"0123dltifcb.-ae\\u{}:ntrfs'
    outcomes = collections.Counter()
    for _ in range(6000):
        names, tensors, structure = flatten([random_tree(rng, 4)], is_tensor)
        text = bytearray(structure)
        for _ in range(rng.randrange(1, 4)):
            position = rng.randrange(len(text))
            text[position : position + rng.randrange(3)] = rng.choices(letters, k=rng.randrange(3))
            if not text:
                break
        try:
            unflatten(bytes(text), names, tensors)
            outcomes["tree"] += 1
        except CorruptError as error:
            outcomes[type(error).__name__] += 1
        except Exception as error:
            raise AssertionError(bytes(text)) from error
    assert outcomes["tree"] and outcomes["BadStructureError"] and outcomes["LeafCountMismatchError"], outcomes


def test_keys_that_could_all_have_one_hash() -> None:
    with pytest.raises(InvalidArgumentError, match="64 bits"):
        flatten({2**64: 1}, lambda node: False)
    for key in (2**64, ["i", f"{2**80:x}"]):
        with pytest.raises(BadStructureError, match="huge"):
            unflatten(json.dumps(["d", [key, 1]]).encode(), [], [])

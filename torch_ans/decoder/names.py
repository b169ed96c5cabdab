"""Short names: variables that never have a value at the same time may share one."""

from __future__ import annotations

import ast
import itertools
import keyword
import random
import string
import zlib
from collections.abc import Callable, Sequence

from .scopes import COMPREHENSIONS, FUNCTIONS, Region, Variable, evaluated_outside, inside_comprehension

#: How often an exchange of names is tried: seconds, and 5 % of the bytes.
NAME_TRIALS = 30000
_EVERYWHERE = (0, 1 << 62)


class _Space:
    """A function, comprehension or module: what has names of its own when it runs. Places in it are counted as its statements are written."""

    def __init__(self, node: ast.AST, parent: _Space | None) -> None:
        self.node, self.parent = node, parent
        self.place = 0
        self.spans: list[tuple[ast.AST, list[int]]] = []  # regions and loops around the place: (node, [first place, last place])
        self.used: dict[str, list[tuple[int, list[tuple[ast.AST, list[int]]]]]] = {}  # where names of its own occur, and the spans around
        self.regions: dict[int, list[int]] = {}  # its regions' spans
        self.foreign: set[str] = set()
        self.captured: set[str] = set()  # what functions inside use


def clashes(tree: ast.Module, variables: dict[str, Variable]) -> dict[str, set[str]]:
    """The variables whose names must differ from that of a variable."""
    spaces: list[_Space] = []

    def enter(node: ast.AST, parent: _Space | None) -> _Space:
        spaces.append(_Space(node, parent))
        return spaces[-1]

    def occurs(name: str, space: _Space) -> None:
        if name not in variables:
            return
        owner = variables[name].owner
        captured = False
        while owner is not space.node and id(owner) not in space.regions:
            space.foreign.add(name)
            captured |= isinstance(space.node, FUNCTIONS)
            assert space.parent is not None, name
            space = space.parent
        if captured:
            space.captured.add(name)
        space.used.setdefault(name, []).append((space.place, list(space.spans)))

    def spanned(node: ast.AST, space: _Space, visit: Callable[[], object]) -> None:
        space.place += 1
        span = [space.place, space.place]
        if isinstance(node, Region):
            space.regions[id(node)] = span
        space.spans.append((node, span))
        visit()
        space.spans.pop()
        span[1] = space.place

    def look(node: ast.AST, space: _Space) -> None:
        if isinstance(node, ast.stmt):
            space.place += 1
        if isinstance(node, ast.For):
            look(node.iter, space)
            spanned(node, space, lambda: [look(child, space) for child in [node.target, *node.body, *node.orelse]])
        elif isinstance(node, ast.Assign):
            look(node.value, space)
            space.place += 1
            for target in node.targets:
                look(target, space)
        elif isinstance(node, (ast.While, Region)):
            spanned(node, space, lambda: children(node, space))
        elif isinstance(node, FUNCTIONS):
            if isinstance(node, ast.FunctionDef):
                occurs(node.name, space)
            inner = enter(node, space)
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    occurs(argument.arg, inner)
            for child in node.body if isinstance(node.body, list) else [node.body]:
                look(child, inner)
        elif isinstance(node, COMPREHENSIONS):
            look(evaluated_outside(node), space)
            inner = enter(node, space)
            for child in inside_comprehension(node):
                look(child, inner)
        elif isinstance(node, ast.Name):
            occurs(node.id, space)
        elif isinstance(node, ast.alias):
            occurs(node.asname or node.name, space)
        elif isinstance(node, ast.Nonlocal):
            for name in node.names:
                occurs(name, space)
        else:
            children(node, space)

    def children(node: ast.AST, space: _Space) -> None:
        for child in ast.iter_child_nodes(node):
            look(child, space)

    look(tree, enter(tree, None))
    result: dict[str, set[str]] = {name: set() for name in variables}
    for space in spaces:
        ranges = {name: _range(space, name, variables[name].owner) for name in space.used}
        ranges.update(dict.fromkeys(space.foreign, _EVERYWHERE))
        for (one, a), (other, b) in itertools.combinations(ranges.items(), 2):
            if a[0] <= b[1] and b[0] <= a[1]:
                result[one].add(other)
                result[other].add(one)
    return result


def _range(space: _Space, name: str, owner: ast.AST) -> tuple[int, int]:
    """First and last place where a variable may have a value: it keeps it in loops, and functions that use it may be called anywhere."""
    whole = _EVERYWHERE if owner is space.node else tuple(space.regions[id(owner)])
    if name in space.captured or isinstance(space.node, COMPREHENSIONS):
        return whole[0], whole[1]
    first, last = whole[1], whole[0]
    for place, spans in space.used[name]:
        first, last = min(first, place), max(last, place)
        for node, span in spans:
            if not isinstance(node, Region) and whole[0] <= span[0] and span[1] <= whole[1]:
                first, last = min(first, span[0]), max(last, span[1])
    return first, last


def short_names(pieces: Sequence[str], variables: dict[str, Variable], clashing: dict[str, set[str]]) -> dict[str, str]:
    """Names of one letter for the most frequent variables; `pieces`: the text, every other piece a variable. Variables that have the same name in the source
    share one where they can; then letters are exchanged as long as this compresses better (by DEFLATE, which every Python has)."""
    counts = {name: 0 for name in variables}
    for name in pieces[1::2]:
        counts[name] += 1
    order = sorted((name for name in variables if counts[name] > 0), key=lambda name: (-counts[name], variables[name].name))
    all_names = [a + b for a in ["", *string.ascii_letters] for b in string.ascii_letters if not keyword.iskeyword(a + b)]
    names: dict[str, str] = {}
    preferred: dict[str, str] = {}
    for variable in order:
        taken = {names[other] for other in clashing[variable] if other in names}
        wish = preferred.get(variables[variable].name)
        names[variable] = wish if wish and wish not in taken else next(name for name in all_names if name not in taken)
        preferred.setdefault(variables[variable].name, names[variable])
    rng = random.Random(0)
    best = compressed_size(render(pieces, names))
    for _ in range(NAME_TRIALS):
        variable = rng.choice(order)
        old, new = names[variable], names[rng.choice(order)]
        others = [other for other in clashing[variable] if names.get(other) == new]
        if len(old) != len(new) or old == new or any(names.get(third) == old and third != variable for other in others for third in clashing[other]):
            continue
        trial = {**names, variable: new, **dict.fromkeys(others, old)}
        size = compressed_size(render(pieces, trial))
        if size <= best:
            names, best = trial, size
    return names


def render(pieces: Sequence[str], names: dict[str, str]) -> str:
    return "".join([names[piece] if i % 2 else piece for i, piece in enumerate(pieces)])


def compressed_size(text: str) -> int:
    return len(zlib.compress(text.encode(), 9))

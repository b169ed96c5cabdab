"""Leaves out what nobody reads, and writes neighbouring statements as one."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from .scopes import Region, name_in_source

#: Functions that are not called for what they do but for what they return; `pop` empties lists that nothing else reads.
_PURE = ("enumerate", "iinfo", "len", "max", "min", "one", "pop", "range", "unfold")


def drop_unused(tree: ast.Module, public: Sequence[str]) -> None:
    """Drops functions, imports and assignments of names that nothing reads, until there are none. (A name counts as one, wherever it is.)"""
    before = None
    while before != (text := ast.dump(tree)):
        before = text
        read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)} | set(public)
        _Dropper(read).visit(tree)


class _Dropper(ast.NodeTransformer):
    def __init__(self, read: set[str]) -> None:
        self.read = read

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        if node.name not in self.read:
            return None
        self.generic_visit(node)
        stored = {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)}
        if node.args.vararg is not None and node.args.vararg.arg not in self.read:
            node.args.vararg = None
        node.body = _merged([child for child in node.body if not isinstance(child, ast.Nonlocal) or stored.intersection(child.names)])
        return node

    def visit_Module(self, node: ast.Module) -> Any:
        self.generic_visit(node)
        node.body = _merged(node.body)
        return node

    def visit_Region(self, node: Region) -> Any:
        self.generic_visit(node)
        node.body = _merged(node.body)
        return node if node.body else None

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        node.body = _merged(node.body)
        if len(node.body) == 1 and _skips(node.body[0]) and isinstance(node.iter, ast.Call) and isinstance(node.iter.args[0], ast.Constant):  # of range(2)
            count = node.body[0].value.args[0]
            if isinstance(count, ast.Constant):
                node.body[0].value.args[0] = ast.Constant(count.value * node.iter.args[0].value)
                return node.body[0]
        return node if node.body else effect_of(node.iter)

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        node.body, node.orelse = _merged(node.body), _merged(node.orelse)
        return node if node.body or node.orelse else effect_of(node.test)

    def visit_Import(self, node: ast.Import) -> Any:
        node.names = [alias for alias in node.names if (alias.asname or alias.name) in self.read]
        return node if node.names else None

    def visit_Assign(self, node: ast.Assign) -> Any:
        node.targets = [target for target in node.targets if not isinstance(target, ast.Name) or target.id in self.read]
        return self.generic_visit(node) if node.targets else effect_of(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        return node if not isinstance(node.target, ast.Name) or node.target.id in self.read else effect_of(node.value)


def effect_of(value: ast.expr) -> list[ast.stmt]:
    """What is left of an expression whose value nobody wants: the calls."""
    if isinstance(value, ast.Call) and name_in_source(value.func) not in _PURE:
        return [ast.Expr(value)]
    if isinstance(value, (ast.IfExp, ast.BoolOp, ast.ListComp)):
        return [ast.Expr(value)] if any(isinstance(node, ast.Call) for node in ast.walk(value)) else []
    return [statement for child in ast.iter_child_nodes(value) if isinstance(child, ast.expr) for statement in effect_of(child)]


def _merged(body: list[ast.stmt]) -> list[ast.stmt]:
    """Neighbouring statements as one: `bits(2)` and `bits(1)`, if what the second skips is not read from the file; `x = [1]` or `x += [1]`, and `x += [2]`; `a, *x = y` and `b, *x = x`."""
    result: list[ast.stmt] = []
    for node in body:
        before = result[-1] if result else ast.Pass()
        if _skips(node) and _skips(before) and _skips(node).id == _skips(before).id and not any(isinstance(child, ast.Call) and name_in_source(child.func) != "count" for child in ast.walk(node.value.args[0])):
            before.value.args[0] = _sum(before.value.args[0], node.value.args[0])
        elif _extended(node) and _extended(before) == _extended(node) and isinstance(node, ast.AugAssign):
            before.value.elts += node.value.elts
        elif _unpacked(before) and isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Name) and node.value.id == _unpacked(before):
            before.targets[0].elts[-1:] = node.targets[0].elts  # if the rest is all, there is none behind it
        else:
            result.append(node)
    return result


def _extended(node: ast.stmt) -> str | None:
    """The name to which a statement assigns or adds a list."""
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else node.target if isinstance(node, ast.AugAssign) else None
    if isinstance(target, ast.Name) and isinstance(node.value, ast.List) and not any(isinstance(child, ast.Name) and child.id == target.id for child in ast.walk(node.value)):
        return target.id
    return None


def _unpacked(node: ast.stmt) -> str | None:
    """The name that takes the rest of what a statement unpacks."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    last = target.elts[-1] if isinstance(target, ast.Tuple) else None
    return last.value.id if isinstance(last, ast.Starred) else None


def _skips(node: ast.stmt) -> ast.Name | None:
    """The function by which a statement does nothing but skip so many bits or numbers of the file."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name) and name_in_source(node.value.func) in ("bits", "varints"):
        return node.value.func
    return None


def _sum(one: ast.expr, other: ast.expr) -> ast.expr:
    """one + other; of n * x and x: (n + 1) * x."""
    if isinstance(one, ast.Constant) and isinstance(other, ast.Constant):
        return ast.Constant(one.value + other.value)
    times, factor = (one.left.value, one.right) if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Mult) and isinstance(one.left, ast.Constant) else (1, one)
    if ast.dump(factor) == ast.dump(other):
        return ast.BinOp(ast.Constant(times + 1), ast.Mult(), factor)
    return ast.BinOp(one, ast.Add(), other)

"""Computes with numbers, and leaves out variables that only hand a value to the next statement."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .inlining import changed_by_functions, evaluated_first, evaluated_once, replace
from .scopes import COMPREHENSIONS, Region

_FOLDED = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.LShift, ast.RShift)


class Arithmetic(ast.NodeTransformer):
    """Operations on numbers, products with 1, and what does nothing with 0."""

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(node.op, ast.Mult) and isinstance(one, ast.Constant) and one.value == 1:
                return other
        if isinstance(node.op, (ast.Sub, ast.LShift)) and isinstance(node.right, ast.Constant) and node.right.value == 0:
            return node.left
        if _is_number(node.left) and _is_number(node.right) and isinstance(node.op, _FOLDED):
            number = eval(ast.unparse(node))
            return ast.UnaryOp(ast.USub(), ast.Constant(-number)) if number < 0 else ast.Constant(number)
        return node


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int) or isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and _is_number(node.operand)


def hand_over(tree: ast.Module) -> None:
    """Writes what is assigned to a variable where it is read, if that is once, and in the next statement, before anything else there may change it.
    For modules whose variables have names of their own."""
    while _handed_over(tree):
        pass


def _handed_over(tree: ast.Module) -> bool:
    occurrences = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    outer = changed_by_functions(tree)
    for body in _sequences(tree):
        for (home, statement), (_, following) in zip(body, body[1:]):
            if not isinstance(statement, ast.Assign) or len(statement.targets) > 1 or not isinstance(target := statement.targets[0], ast.Name):
                continue
            if occurrences[target.id] != 2 or target.id in outer:
                continue
            places = list(evaluated_first(following, outer))
            if _is_plain(statement.value, outer) and isinstance(following, (ast.Assign, ast.Expr)):
                places += evaluated_once(following)
            for place in places:
                if isinstance(place, ast.Name) and place.id == target.id:
                    replace(following, {id(place): statement.value})
                    home.remove(statement)
                    return True
    return False


def _sequences(tree: ast.AST) -> Iterator[list[tuple[list[ast.stmt], ast.stmt]]]:
    """Statements that run one after another, each with the list that it is in."""

    def flat(body: list[ast.stmt]) -> Iterator[tuple[list[ast.stmt], ast.stmt]]:
        for node in body:
            if isinstance(node, Region):
                yield from flat(node.body)
            else:
                yield body, node

    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            if isinstance(body := getattr(node, field, None), list) and not isinstance(node, Region):
                yield list(flat(body))


def _is_plain(value: ast.expr, outer: set[str]) -> bool:
    """Whether nothing in a statement can change the value: it has no calls, no items of lists, no variables that functions assign to."""
    return not any(isinstance(node, (ast.Call, ast.Subscript, ast.Attribute, *COMPREHENSIONS)) or (isinstance(node, ast.Name) and node.id in outer) for node in ast.walk(value))

"""Writes functions that are called once where they are called: no head, no arguments, no result to hand over.

For modules whose variables have names of their own (scopes.py)."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

from .scopes import COMPREHENSIONS, FUNCTIONS, Region, Variable, evaluated_outside


def inline(tree: ast.Module, variables: dict[str, Variable]) -> None:
    """Until there is no function left that can be written where it is called."""
    while any(_inlined(tree, function, variables) for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]):
        pass
    _collect_nonlocals(tree, variables)


def _uses(tree: ast.AST, name: str) -> list[ast.Name]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]


def _stored(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)}


def _inlined(tree: ast.Module, function: ast.FunctionDef, variables: dict[str, Variable]) -> bool:
    """Whether a function could be written where it is called, and was."""
    if not _can_move(function) or len(_uses(tree, function.name)) != 1:
        return False
    place = _place_of_call(tree, function)
    if place is None:
        return False
    body, statement, call = place
    if any(node is call for node in ast.walk(function)) or len(call.args) != len(function.args.args) or call.keywords or any(isinstance(arg, ast.Starred) for arg in call.args):
        return False
    _remove(tree, function)
    region = Region(_arguments(tree, function, call) + function.body)
    last = region.body[-1]
    result = region.body.pop().value if isinstance(last, ast.Return) else None
    region.body += _with_result(region, statement, call, result, variables)
    body[body.index(statement)] = region
    for name, variable in variables.items():
        if variable.owner is function:
            variables[name] = variable._replace(owner=region)
    return True


def _can_move(function: ast.FunctionDef) -> bool:
    """Nothing of it outlives the call: functions within are only called; there is nothing but a last return; arguments are plain."""
    if function.decorator_list or len([node for node in ast.walk(function.args) if isinstance(node, ast.arg)]) > len(function.args.args) or function.args.defaults:
        return False
    returns = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
    called = {id(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    for inner in ast.walk(function):
        if isinstance(inner, ast.Lambda):
            return False
        if isinstance(inner, ast.FunctionDef) and inner is not function:
            if any(id(use) not in called for use in _uses(function, inner.name)):
                return False
            returns = [node for node in returns if not any(node is child for child in ast.walk(inner))]
    return all(node is function.body[-1] for node in returns)


def _place_of_call(tree: ast.Module, function: ast.FunctionDef) -> tuple[list[ast.stmt], ast.stmt, ast.Call] | None:
    """The list of statements with the call of a function, the statement, and the call, if this runs once, before anything else in the statement does or
    if it does not matter when: an expression of plain arguments that calls no function of ours."""
    outer = changed_by_functions(tree)
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def calls_ours(*nodes: ast.AST) -> bool:
        return any(isinstance(child, ast.Name) and child.id in functions for node in nodes for child in ast.walk(node))

    anywhere = isinstance(function.body[0], ast.Return) and not calls_ours(function.body[0])
    for parent in ast.walk(tree):
        for field in ("body", "orelse"):
            body = getattr(parent, field, None)
            for statement in body if isinstance(body, list) else ():
                first = [node for node in evaluated_first(statement, outer) if _calls(node, function)]
                if anywhere and isinstance(statement, (ast.Assign, ast.Expr)):
                    first += [node for node in evaluated_once(statement) if _calls(node, function) and not calls_ours(*node.args)]
                if first:
                    return body, statement, first[0]
    return None


def _calls(node: Any, function: ast.FunctionDef) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function.name


def evaluated_first(statement: ast.stmt, outer: set[str]) -> Iterator[ast.AST]:
    """Expressions of a statement that are evaluated once, and before any call that does not contain them. `outer`: variables that functions may change."""
    if isinstance(statement, (ast.Assign, ast.Return, ast.Expr)):
        start: Any = statement.value
    elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name) and statement.target.id not in outer:  # which is read first
        start = statement.value
    elif isinstance(statement, ast.For):
        start = statement.iter
    elif isinstance(statement, ast.If):
        start = statement.test
    else:
        return
    yield from _first_of(start)


def changed_by_functions(tree: ast.AST) -> set[str]:
    return {name for node in ast.walk(tree) if isinstance(node, ast.Nonlocal) for name in node.names}


def _first_of(node: Any) -> Iterator[ast.AST]:
    if node is None or isinstance(node, FUNCTIONS):
        return
    yield node
    if isinstance(node, COMPREHENSIONS):
        yield from _first_of(evaluated_outside(node))
    elif isinstance(node, ast.BoolOp):
        yield from _first_of(node.values[0])
    elif isinstance(node, ast.IfExp):
        yield from _first_of(node.test)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _first_of(child)
            if any(isinstance(inner, ast.Call) for inner in ast.walk(child)):
                return  # what comes behind a call is not first


def evaluated_once(node: ast.AST) -> Iterator[ast.AST]:
    """All parts of an expression or a simple statement that are evaluated at most once."""
    yield node
    if not isinstance(node, (*COMPREHENSIONS, *FUNCTIONS)):
        for child in ast.iter_child_nodes(node):
            yield from evaluated_once(child)


def _remove(tree: ast.Module, function: ast.FunctionDef) -> None:
    for parent in ast.walk(tree):
        for field in ("body", "orelse"):
            body = getattr(parent, field, None)
            if isinstance(body, list) and any(node is function for node in body):
                body.remove(function)


def _arguments(tree: ast.Module, function: ast.FunctionDef, call: ast.Call) -> list[ast.stmt]:
    """Assigns arguments to parameters, where these are not replaced by them."""
    changed = {name for node in function.body for name in _stored(node)}
    elsewhere = changed_by_functions(tree)
    expression = isinstance(function.body[0], ast.Return)
    assigned: list[ast.stmt] = []
    for parameter, value in zip(function.args.args, call.args):
        name = parameter.arg
        uses = [use for node in function.body for use in _uses(node, name)]
        constant = isinstance(value, ast.Constant) or (isinstance(value, ast.Name) and value.id not in changed | elsewhere)
        if name not in changed and (constant or (expression and len(uses) == 1)):
            replace(function, {id(use): value for use in uses})
        else:
            assigned.append(ast.Assign([ast.Name(name, ast.Store())], value))
    return assigned


def replace(tree: ast.AST, values: dict[int, ast.expr]) -> None:
    """Puts expressions in the places of nodes, by the id of these."""

    class Replacer(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            if id(node) not in values:
                return self.generic_visit(node)
            value = values[id(node)]
            return copy.copy(value) if isinstance(value, ast.Name) else value  # names are changed one by one

    Replacer().visit(tree)


def _with_result(region: Region, statement: Any, call: ast.Call, result: ast.expr | None, variables: dict[str, Variable]) -> list[ast.stmt]:
    """The statement that called, with the result in place of the call. What it only gives another name has this name from the beginning."""
    if result is None:
        result = ast.Constant(None)
    if isinstance(statement, ast.Expr) and statement.value is call:
        return [ast.Expr(result)] if any(isinstance(node, ast.Call) for node in ast.walk(result)) else []
    if not isinstance(statement, ast.Assign) or statement.value is not call or len(statement.targets) > 1:
        replace(statement, {id(call): result})
        return [statement]
    target = statement.targets[0]
    if not isinstance(target, ast.Tuple) or not isinstance(result, ast.Tuple):
        pairs: list[tuple[ast.expr, ast.expr]] = [(target, result)]
    else:
        targets, values = list(target.elts), list(result.elts)
        if isinstance(last := targets[-1], ast.Starred):
            targets[-1], values[len(targets) - 1 :] = last.value, [ast.List(values[len(targets) - 1 :], ast.Load())]
        pairs = list(zip(targets, values))
    rest = [pair for pair in pairs if not _renamed(region, *pair, variables)]
    if not rest:
        return []
    if len(rest) == 1:
        return [ast.Assign([rest[0][0]], rest[0][1])]
    return [ast.Assign([ast.Tuple([target for target, _ in rest], ast.Store())], ast.Tuple([value for _, value in rest], ast.Load()))]


def _renamed(region: Region, target: ast.expr, value: ast.expr, variables: dict[str, Variable]) -> bool:
    """Whether the value is a variable of the region's own, which could be called as the target."""
    if not isinstance(target, ast.Name) or not isinstance(value, ast.Name) or value.id not in _stored(region) or _uses(region, target.id):
        return False
    if any(isinstance(node, ast.Nonlocal) and value.id in node.names for node in ast.walk(region)):
        return False
    for use in _uses(region, value.id):
        use.id = target.id
    value.id = target.id
    return True


def _collect_nonlocals(tree: ast.Module, variables: dict[str, Variable]) -> None:
    """One `nonlocal` at the beginning of each function, for what is none of its own variables."""
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        own, names = [function], []
        for body in _bodies(function):
            for node in body:
                if isinstance(node, Region):
                    own.append(node)
                elif isinstance(node, ast.Nonlocal):
                    names += node.names
            body[:] = [node for node in body if not isinstance(node, ast.Nonlocal)]
        outer = sorted({name for name in names if not any(variables[name].owner is node for node in own)})
        if outer:
            function.body.insert(0, ast.Nonlocal(outer))


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Lists of statements of a function, not those of functions within."""
    for field in ("body", "orelse"):
        body = getattr(node, field, None)
        if isinstance(body, list):
            yield body
            for child in list(body):
                if not isinstance(child, ast.FunctionDef):
                    yield from _bodies(child)

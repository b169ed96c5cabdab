"""The code of a module in few bytes."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from .dropping import drop_unused
from .inlining import inline
from .names import clashes, render, short_names
from .printing import lines
from .simplifying import Arithmetic, hand_over
from .scopes import own_variables


def minify(tree: ast.Module, public: Sequence[str]) -> str:
    """Code that does the same: functions that are called once where they are called, one-letter names for all but `public` ones, no needless space.
    Arguments of its own functions must be given by position."""
    imports = [node for node in tree.body if isinstance(node, ast.Import)]
    tree.body = [ast.Import([alias for node in imports for alias in node.names])] * bool(imports) + [node for node in tree.body if node not in imports]
    variables = own_variables(tree, public)
    inline(tree, variables)
    Arithmetic().visit(tree)
    drop_unused(tree, public)
    hand_over(tree)
    ast.fix_missing_locations(tree)
    pieces = re.split(r"(zz\d{4})", "\n".join(lines(tree.body, "")) + "\n")
    return render(pieces, short_names(pieces, variables, clashes(tree, variables)))

"""`analyze`, explained: where a file's bytes go, and which ideas would make it smaller, with verdicts; as text or as one HTML page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from . import hypotheses, tree
from .analyze import Analysis, bits_per, roles
from .entries import Kind
from .hypotheses import Finding
from .model import compress_model, is_leaf


def findings(state: Any, analysis: Analysis, options: Mapping[str, Any], progress: Callable[[str], None] | None = None) -> list[Finding]:
    """What `hypotheses.explain` finds on the weights of a model, after what its analysis (with these options of `compress_model`) says itself: tables and lanes, general compressors,
    prediction, clipping."""
    tell = progress or (lambda text: None)
    flat = tree.flatten(state, is_leaf)
    tell("prediction")
    found = [overhead(analysis), compressors(analysis), prediction(state, analysis, options), clipping(analysis)]
    return found + hypotheses.explain({name: t for name, t in zip(flat.names, flat.tensors) if isinstance(t, Tensor)}, tell)


def overhead(analysis: Analysis) -> Finding:
    """What tables, directories, final states and the index take."""
    coded = sum(t.bytes for t in analysis.tensors)
    over = max(0.0, coded - analysis.minimum_bytes) + analysis.head_bytes
    text = f"Tables, directories and states of lanes take {coded - analysis.minimum_bytes:+,.0f} bytes beside the minimum (predicting models are below it), header and index {analysis.head_bytes:,}."
    return Finding("tables and lanes", "How much of the file is not weights?", 8 * over / max(1, analysis.numel), analysis.numel, text, is_cost=True)


def compressors(analysis: Analysis) -> Finding:
    """General compressors on the same integers and bytes."""
    question = "Would a general compressor do better than optimal coding?"
    there = [coder for coder in analysis.coders if coder.bytes is not None]
    own = next(coder for coder in there if coder.name == "torch_ans")
    others = [coder for coder in there if coder is not own]
    if not others or own.bytes is None:
        return Finding("general compressors", question, None, 0, "None is installed.")
    best = min(others, key=lambda coder: coder.bytes or 0)
    assert best.bytes is not None
    saved = 8 * (own.bytes - best.bytes) / max(1, analysis.numel)
    text = f"The best of {len(others)}, {best.name}, takes {best.bytes:,} bytes where this file takes {own.bytes:,}: {100 * (best.bytes / max(1, own.bytes) - 1):+.1f} %."
    return Finding("general compressors", question, saved, analysis.numel, text, [{"coder": coder.name, "bytes": coder.bytes} for coder in there])


def prediction(state: Any, analysis: Analysis, options: Mapping[str, Any]) -> Finding:
    """Files of the higher levels: linear prediction, reference rows and matrices."""
    question = "Do weights tell about each other along rows, columns and between matrices?"
    rows = []
    for level in ("fast", "default", "best"):
        size = analysis.coders[0].bytes if level == options.get("level", "fast") else compress_model(state, **{**options, "level": level}).file_bytes
        rows.append({"level": level, "bytes": size})
    saved = 8 * (rows[0]["bytes"] - rows[2]["bytes"]) / max(1, analysis.numel)
    text = f"level=\"default\" takes {rows[1]['bytes']:,} bytes, level=\"best\" {rows[2]['bytes']:,}, level=\"fast\" {rows[0]['bytes']:,}: {100 * (rows[2]['bytes'] / rows[0]['bytes'] - 1):+.2f} % for the best."
    return Finding("linear prediction and reference rows", question, saved, analysis.numel, text, rows)


def clipping(analysis: Analysis) -> Finding:
    """Integers of so few bits that outliers are clipped."""
    sizes = {t.name: t.numel for t in analysis.tensors if t.kind == Kind.QUANTIZED.name.lower()}
    question = "Does clipping waste bits?"
    if not sizes:
        return Finding("clipping", question, None, 0, "Nothing is quantized: ask with --bits.")
    wasted = sum(c.wasted_bits * sizes[c.name] for c in analysis.clipping)
    rows = [{"tensor": c.name, "wasted_bits": c.wasted_bits, "clipped": c.clipped} for c in analysis.clipping]
    text = f"Of {len(sizes)} quantized tensors {len(rows)} err as much as an unclipped grid of fewer bits would: {wasted / sum(sizes.values()):.3f} bits per weight. Use quantizer=\"uniform\" or a trellis."
    return Finding("clipping", question, wasted / sum(sizes.values()), sum(sizes.values()), text, rows)


# ---- as text, and as a page ----


def to_text(found: Sequence[Finding]) -> str:
    lines = []
    for f in found:
        saved = "" if f.saved_bits is None else f"{f.saved_bits:+.3f} bits"
        lines.append(f"{f.name:38}{f.verdict:16}{saved:>12}  {f.text}")
    return "\n".join(lines)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c2330; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100%; font-size: .86rem } th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e4e7ec } th:first-child, td:first-child { text-align: left }
td.text, th.text { text-align: left } .pays { color: #116329; font-weight: 600 } .no { color: #8a2a1d } .none { color: #68707d }
svg text { font: 12px system-ui, sans-serif; fill: #1c2330 } details { margin: .3rem 0 } summary { cursor: pointer }
"""


def to_html(analysis: Analysis, found: Sequence[Finding], title: str) -> str:
    """One page: sizes beside the minimum and other coders, where bytes go, ideas with verdicts, tensors."""
    coders = [(c.name, float(c.bytes)) for c in sorted(analysis.coders, key=lambda c: (c.bytes is None, c.bytes or 0)) if c.bytes is not None]
    by_role = sorted(roles(analysis.tensors), key=lambda row: -row["bytes"])
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1><p>{analysis.numel:,} weights in {len(analysis.tensors)} tensors; {bits_per(analysis.coders[0].bytes or 0, analysis.numel) or 0:.3f} bits per weight in the file, "
        f"{bits_per(analysis.minimum_bytes, analysis.numel) or 0:.3f} at the order-0 minimum.</p>",
        "<h2>Sizes</h2>" + _bars([("theoretical minimum", analysis.minimum_bytes), *coders], "bytes"),
        "<h2>Where the bytes go</h2>" + _bars([(f"{row['role']} ({row['tensors']})", float(row["bytes"])) for row in by_role[:24]], "bytes"),
        "<h2>What would make it smaller</h2>" + _findings_table(found),
        "<h2>Tensors</h2>" + _tensors_table(analysis),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _bars(rows: Sequence[tuple[str, float]], unit: str) -> str:
    """Horizontal bars with their figures."""
    most, height, left, width = max((value for _, value in rows), default=1.0) or 1.0, 22, 330, 470
    lines = [f"<svg role='img' viewBox='0 0 {left + width + 150} {height * len(rows) + 4}' width='100%'>"]
    for i, (name, value) in enumerate(rows):
        y = i * height
        lines.append(f"<text x='{left - 8}' y='{y + 15}' text-anchor='end'>{_text(name if len(name) < 52 else '…' + name[-50:])}</text>")
        lines.append(f"<rect x='{left}' y='{y + 4}' width='{max(0.5, width * value / most):.1f}' height='{height - 8}' fill='#3b6fb6'/>")
        lines.append(f"<text x='{left + max(0.5, width * value / most) + 6:.1f}' y='{y + 15}'>{value:,.0f} {unit}</text>")
    return "\n".join(lines) + "</svg>"


def _findings_table(found: Sequence[Finding]) -> str:
    lines = ["<table><tr><th>idea</th><th>verdict</th><th>bits per weight</th><th class='text'>measured</th></tr>"]
    for f in found:
        kind = {"pays": "pays", "does not pay": "no"}.get(f.verdict, "none")
        saved = "" if f.saved_bits is None else f"{f.saved_bits:+.3f}"
        lines.append(f"<tr><td><b>{_text(f.name)}</b><br>{_text(f.question)}</td><td class='{kind}'>{f.verdict}</td><td>{saved}</td><td class='text'>{_text(f.text)}{_details(f.rows)}</td></tr>")
    return "\n".join(lines) + "</table>"


def _details(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [f"<tr>{''.join(f'<th>{_text(key)}</th>' for key in keys)}</tr>"]
    for row in rows:
        cells = [f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else _text(value) for value in (row.get(key, "") for key in keys)]
        shown.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<details><summary>figures</summary><table>{''.join(shown)}</table></details>"


def _tensors_table(analysis: Analysis) -> str:
    lines = ["<table><tr><th>tensor</th><th>shape</th><th>kind</th><th>model</th><th>bits per weight</th><th>minimum</th><th>bytes</th></tr>"]
    for t in sorted(analysis.tensors, key=lambda t: -t.bytes):
        rates = [f"{rate:.3f}" if (rate := bits_per(size, t.numel)) is not None else "" for size in (t.bytes, t.minimum_bytes)]
        lines.append(f"<tr><td>{_text(t.name)}</td><td>{' x '.join(map(str, t.shape))}</td><td>{_text(t.kind)}</td><td>{_text(t.model)}</td><td>{rates[0]}</td><td>{rates[1]}</td><td>{t.bytes:,}</td></tr>")
    return "\n".join(lines) + "</table>"

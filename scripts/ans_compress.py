#!/usr/bin/env python3
"""Compress or analyze a model, in one command: the same as `python -m torch_ans compress` and `analyze`.

    scripts/ans_compress.py --input model.npz --analyze --bits 6
    scripts/ans_compress.py --input model.npz --output model.ans --bits 6 --verify
"""

from __future__ import annotations

import argparse
import sys

from torch_ans import cli


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="a model: .npz, .safetensors or .pt")
    parser.add_argument("--output", metavar="OUT.ans", help="compress to this file")
    parser.add_argument("--analyze", action="store_true", help="compare with the theoretical minimum, LZMA, Brotli and zstd")
    parser.add_argument("--verify", action="store_true", help="decode what was written and compare it")
    parser.add_argument("--json", action="store_true", help="print the analysis as JSON")
    cli.add_compression_options(parser)
    args = parser.parse_args(arguments)
    if not args.output and not args.analyze:
        parser.error("nothing to do: give --output or --analyze")
    if args.verify and not args.output:
        parser.error("--verify needs --output")
    if args.json and not args.analyze:
        parser.error("--json needs --analyze")
    settings = ["--chunk-symbols", str(args.chunk_symbols), "--level", args.level]
    settings += ["--bits", str(args.bits)] if args.bits is not None else []
    settings += ["--clip-sigmas", str(args.clip_sigmas)] if args.clip_sigmas is not None else []
    code = 0
    if args.analyze:
        code = cli.main(["analyze", args.input, *settings, *["--json"] * args.json])
    if args.output and code == 0:
        code = cli.main(["compress", args.input, "-o", args.output, *settings, *["--verify"] * args.verify])
    return code


if __name__ == "__main__":
    sys.exit(main())

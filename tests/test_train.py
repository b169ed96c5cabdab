"""The training example, in small: train, quantize, write, read back, score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"ITERATIONS": 3, "MODEL_DIM": 128, "NUM_LAYERS": 2, "NUM_HEADS": 2, "NUM_KV_HEADS": 1, "MLP_DIM": 256, "TRAIN_BATCH_TOKENS": 512, "TRAIN_SEQ_LEN": 64, "VAL_TOKENS": 2048}


@pytest.mark.parametrize("use_ans", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_training_ends_in_an_artifact_that_scores_as_it_did(use_ans: int, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"".join(path.read_bytes() for path in sorted((ROOT / "torch_ans").glob("*.py"))))
    settings = SMALL | {"USE_ANS": use_ans, "OUT_DIR": tmp_path, "DATA_PATH": text, "BUDGET_BYTES": 120_000, "LEVEL": "fast", "SURVIVORS": 1}
    environment = os.environ | {name: str(value) for name, value in settings.items()} | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / "scripts" / "train_gpt_ans.py")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / ("gpt.ans.json" if use_ans else "gpt.ptz.json")).read_text())
    assert told["bpb_reloaded"] == told["bpb_quantized"] and abs(told["bpb_quantized"] - told["bpb_float"]) < 0.2
    assert told["artifact_bytes"] == (tmp_path / ("gpt.ans" if use_ans else "gpt.ptz")).stat().st_size
    assert not use_ans or 0.9995 * 120_000 <= told["artifact_bytes"] <= 120_000

"""GPTQ for entropy-coded weights: each column's error is made up for by the columns behind it, inside the search for the symbols (Frantar et al. 2022).

hessians = collect_hessians(model, batches)                    # what the inputs of linear layers look like
quantized = quantize_model(model, hessians, bits_per_weight=3.3)
torch_ans.save(model.state_dict() | quantized, "model.ans")     # load() gives floats back

Beside the plain algorithm there is a trellis (`ops.quantize_trellis`), in which every path has errors of its own, and scales of columns: where the inputs of a column are large
or have no like, its steps are small. Both are made for the entropy coder behind, which has tables for columns of every scale. docs/quantizers.md tells what is gained.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from . import grid, ops, weights
from .errors import InvalidArgumentError, NotFiniteError
from .sharing import share
from .weights import QUANTIZERS, QuantizedWeight

#: Added to the diagonal, as a part of its mean: without, columns whose inputs hardly vary would take up errors without bound.
DAMPING = 0.01
# Columns of like scale have a table: a quarter of an octave.
_CLASSES_PER_OCTAVE, _MAX_CLASSES = 4, 48
# Rows on which the step is looked for before it is refined on all.
_SAMPLE = 1 << 17
ROUNDS = 3
# Octaves that steps may differ in whose tables are nearly the same.
_NEAR = 0.35


# ---- Hessians ----


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a model by the names of their weights in `state_dict()`; a weight that several share is there once."""
    found: dict[str, nn.Linear] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in seen:
            seen.add(id(module.weight))
            found[f"{name}.weight" if name else "weight"] = module
    return found


class HessianCollector:
    """Sums up the second moments of the inputs of layers while a model runs: float64 [C, C] for a layer of C inputs, and how many inputs there were.

    with HessianCollector(linear_layers(model)) as collector:
        for batch in batches: model(batch)
    hessians = collector.hessians()"""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self._layers = dict(layers)
        self._handles: list[Any] = []
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def __enter__(self) -> HessianCollector:
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_pre_hook(lambda module, inputs, name=name: self.add(name, inputs[0])))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @torch.no_grad()
    def add(self, name: str, inputs: Tensor) -> None:
        """Inputs [..., C] of a layer. Products are float32 (of whatever the inputs are), sums float64."""
        x = inputs.detach().reshape(-1, inputs.shape[-1]).float()
        product = (x.T @ x).double()
        if not torch.isfinite(product).all():
            raise NotFiniteError(f"inputs of {name!r} hold NaN or infinity, or are too large")
        if name in self.sums:
            self.sums[name] += product
        else:
            self.sums[name] = product
        self.counts[name] = self.counts.get(name, 0) + x.shape[0]

    def hessians(self, group: dist.ProcessGroup | None = None) -> dict[str, Tensor]:
        """Mean second moments by layer. In a process group every rank has run its share of the batches: their sums are added in the order of ranks, in float64, so that a job that
        runs again finds the same. A layer that has had no input is left out."""
        names = list(self._layers)
        if not (dist.is_available() and dist.is_initialized()):
            return {name: self.sums[name] / self.counts[name] for name in names if name in self.sums}
        world = dist.get_world_size(group)
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend(group) == "nccl" else torch.device("cpu")
        sizes = torch.tensor([[self.counts.get(name, 0), self.sums[name].shape[0] if name in self.sums else 0] for name in names], dtype=torch.int64, device=device).view(-1, 2)
        every = [torch.empty_like(sizes) for _ in range(world)]
        dist.all_gather(every, sizes, group=group)
        result: dict[str, Tensor] = {}
        for i, name in enumerate(names):
            columns = max(int(of_rank[i, 1]) for of_rank in every)
            if columns == 0:
                continue
            own = self.sums[name].to(device) if name in self.sums else torch.zeros(columns, columns, dtype=torch.float64, device=device)
            parts = [torch.empty_like(own) for _ in range(world)]
            dist.all_gather(parts, own.contiguous(), group=group)
            total = parts[0].clone()
            for part in parts[1:]:
                total += part
            result[name] = (total / sum(int(of_rank[i, 0]) for of_rank in every)).to(self.sums[name].device if name in self.sums else device)
        return result


def collect_hessians(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    layers: Mapping[str, nn.Module] | None = None,
    run: Callable[[nn.Module, Any], Any] | None = None,
    group: dist.ProcessGroup | None = None,
) -> dict[str, Tensor]:
    """Hessians (float64 [C, C]: mean second moments of the inputs) of linear layers, from calibration batches. In a process group each rank brings its own batches.

    layers: by name (default: `linear_layers(model)`). run: how a model is called with a batch (default: `model(batch)`, `model(*batch)` for a tuple or list, `model(**batch)` for a dict)."""
    with HessianCollector(linear_layers(model) if layers is None else layers) as collector, _evaluating(model), torch.no_grad():
        for batch in batches:
            (run or _call)(model, batch)
    return collector.hessians(group)


def _call(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


# ---- one weight ----


@dataclass(frozen=True)
class Feedback:
    """What the search needs to know of a Hessian, for given scales of columns. feedback float32 [C, C]: how much of an error in column i is subtracted from the target of column j;
    weight float32 [C]: what a squared error counts, 1 on average; factor: that average, so that `weight * factor` are the Hessian's own numbers."""

    feedback: Tensor
    weight: Tensor
    factor: float


def inverse_factor(hessian: Tensor, damping: float = DAMPING) -> Tensor:
    """The upper Cholesky factor U (float64 [C, C]) of the inverse of a damped Hessian: `inv(H + damping * mean(diag(H)) * I) = U.T @ U`.

    Raises NotFiniteError for NaN and infinity, InvalidArgumentError if it is no symmetric positive semidefinite matrix."""
    h = hessian.double()
    if h.dim() != 2 or h.shape[0] != h.shape[1]:
        raise InvalidArgumentError(f"a Hessian has the shape {tuple(h.shape)}, which is not [C, C]")
    if not torch.isfinite(h).all():
        raise NotFiniteError("a Hessian holds NaN or infinity")
    if not 0 < damping < math.inf:
        raise InvalidArgumentError(f"damping is {damping!r}, not a positive number")
    mean = h.diagonal().mean()
    if not torch.allclose(h, h.T, rtol=1e-6, atol=1e-9 * float(mean.abs())) or mean < 0:
        raise InvalidArgumentError("a Hessian is not symmetric and positive semidefinite")
    damped = h + torch.eye(len(h), dtype=h.dtype, device=h.device) * (damping * mean if mean > 0 else 1.0)
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise InvalidArgumentError("a Hessian is not positive semidefinite; more damping makes it so")
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)


def column_scales(factor: Tensor) -> Tensor:
    """int8 [C], sixteenths of an octave: scales of columns in proportion to the diagonal of `inverse_factor`, 1 in the geometric mean. Then errors of all columns count alike."""
    octaves = factor.diagonal().log2()
    return (16 * (octaves - octaves.mean())).round().clamp(-128, 127).to(torch.int8)


def feedback_of(factor: Tensor, column_scale: Tensor | None) -> Feedback:
    """With errors in steps: that of column i is `U[i, j] / U[i, i] * scale[i] / scale[j]` times an error of column j, and counts `(scale[i] / U[i, i])^2`."""
    diagonal = factor.diagonal()
    scale = torch.ones_like(diagonal) if column_scale is None else weights.column_factor(column_scale).double()
    own = scale / diagonal
    squares = own.square()
    mean = squares.mean()
    return Feedback((torch.triu(factor, 1) * own[:, None] / scale).float(), (squares / mean).float(), float(mean))


def column_classes(rows: Tensor, step: Tensor, factor: Tensor | None) -> tuple[Tensor, int]:
    """uint8 [C] and how many there are: columns whose weights are of like size, in steps."""
    steps = torch.where(step > 0, step, math.inf).double()
    size = (rows.double() / steps[:, None]).square().mean(0).sqrt()
    if factor is not None:
        size /= factor.double()
    octaves = size.clamp_min(2.0**-20).log2()
    number = (_CLASSES_PER_OCTAVE * octaves).round()
    number = (number - number.amax()).clamp_min(1 - _MAX_CLASSES)
    number -= number.amin()
    return number.to(torch.uint8), int(number.amax()) + 1


def quantize_weight(
    weight: Tensor,
    hessian: Tensor,
    quantizer: str = "trellis8",
    *,
    bits_per_weight: float | None = None,
    step_sigmas: float | None = None,
    scale_columns: bool | None = None,
    damping: float = DAMPING,
    rounds: int = ROUNDS,
    survivors: int = 1,
) -> QuantizedWeight:
    """Quantizes the weight [R, C] of a linear layer such that its output changes least, for inputs with the second moments `hessian` [C, C].

    quantizer, bits_per_weight, step_sigmas: as of `torch_ans.quantize_weight`, except that bits are those with a table for columns of each size, and with rate-distortion
    optimisation for "uniform" too. scale_columns: whether columns have scales (see `column_scales`); None: if that makes errors smaller at equal bits. damping: see `inverse_factor`.
    rounds: so often the bits that symbols take are found anew; with 0 errors alone count, as GPTQ is usually done. survivors: see `ops.quantize_feedback`.
    Raises InvalidArgumentError, and NotFiniteError for NaN and infinity."""
    grid.check_grid(quantizer, bits_per_weight, step_sigmas)
    search = HessianSearch(weight, hessian, quantizer, scale_columns=scale_columns, damping=damping, rounds=rounds, survivors=survivors)
    start = float(step_sigmas) if step_sigmas is not None else grid.first_step(search.states, bits_per_weight)
    search.decide_columns(start)
    return search.quantized(start if step_sigmas is not None else grid.solve(search, bits_per_weight, start))


class HessianSearch(grid.Search):
    """The symbols of a weight [R, C] for any step (a `grid.Search`), such that the output of its layer changes least; arguments as of `quantize_weight`."""

    def __init__(
        self, weight: Tensor, hessian: Tensor, quantizer: str, *, scale_columns: bool | None = None, damping: float = DAMPING, rounds: int = ROUNDS, survivors: int = 1
    ) -> None:
        if weight.dim() != 2:
            raise InvalidArgumentError(f"the weight has {weight.dim()} dimensions, not 2")
        if hessian.shape != (weight.shape[1], weight.shape[1]):
            raise InvalidArgumentError(f"the Hessian of a weight with {weight.shape[1]} columns has the shape {tuple(hessian.shape)}")
        if weight.numel() == 0:
            raise InvalidArgumentError("the weight has no elements")
        self.states, self.shape, self.dtype = QUANTIZERS[quantizer], tuple(weight.shape), weight.dtype
        self.rounds, self.survivors = rounds, survivors
        self.rows = weight.detach().float()
        self.stride = max(1, self.rows.numel() // _SAMPLE)
        hessian = hessian.to(self.rows.device)
        self._factor = inverse_factor(hessian, damping)
        self._deviations = weights.deviations(self.rows)
        self._nothing = self._error_of_nothing(hessian.double())
        self._choices = [_Columns(self.rows, self._factor, scaled) for scaled in ([True, False] if scale_columns is None else [scale_columns])]

    @property
    def column_scale(self) -> Tensor | None:
        return self._choices[0].scale

    def _error_of_nothing(self, hessian: Tensor) -> float:
        """What a weight's error is, in squared deviations of rows, if all rows are zero."""
        rows = self.rows[:: self.stride] / self._deviations[:: self.stride, None]
        return max(float(((rows @ hessian) * rows).sum()) / rows.numel(), 1e-300)

    def decide_columns(self, sigmas: float) -> None:
        """Whether columns have scales, if that is not decided: they have if errors are smaller then at equal bits, at steps like these. Half the logarithm of the error, plus bits, is
        the same for finer and coarser steps."""

        def quality(columns: _Columns) -> float:
            found = self._run(columns, sigmas, self.stride)
            return 0.5 * math.log2(max(found.error, 1e-300)) + found.bits

        if len(self._choices) > 1:
            scaled, plain = self._choices
            # What has been found with scales is found again: tables that are kept would change what `fit` finds at other steps.
            self._choices = [_Columns(self.rows, self._factor, True) if quality(scaled) <= quality(plain) else plain]

    def run(self, sigmas: float, stride: int = 1) -> grid.Found:
        return self._run(self._choices[0], sigmas, stride)

    def _run(self, columns: _Columns, sigmas: float, stride: int) -> grid.Found:
        if columns.last is not None and columns.last[:2] == (sigmas, stride):
            return columns.last[2]
        steps = grid.row_steps(columns.scaled[::stride], sigmas)
        rows = self.rows[::stride].masked_fill(steps.step[:, None] == 0, 0)
        number, classes = column_classes(rows, steps.step, columns.step)
        known = columns.known_costs(sigmas, classes) if self.rounds > 0 else None
        q = ops.quantize_feedback(
            rows,
            steps.step,
            self.states,
            columns.feedback.feedback,
            columns.feedback.weight,
            column_step=columns.step,
            column_class=number,
            classes=classes,
            rounds=self.rounds if known is None else 1,
            costs=known,
            survivors=self.survivors,
        )
        if known is None:
            columns.costs.append((sigmas, q.costs))
        # Errors are in steps of their rows, which are alike in what they are of a row's deviation.
        step = float((steps.step.double() / self._deviations[::stride]).square().mean())
        error = step * columns.feedback.factor * q.error / rows.numel() / self._nothing
        columns.last = (sigmas, stride, grid.Found(steps, q.symbols, q.bits / rows.numel(), error))
        return columns.last[2]


class _Columns:
    """A weight with or without scales of columns, and what has been found of it."""

    def __init__(self, rows: Tensor, factor: Tensor, scaled: bool) -> None:
        self.scale = column_scales(factor) if scaled else None
        self.step = None if self.scale is None else weights.column_factor(self.scale)
        self.scaled = rows if self.step is None else rows / self.step
        self.feedback = feedback_of(factor, self.scale)
        self.last: tuple[float, int, grid.Found] | None = None
        self.costs: list[tuple[float, Tensor]] = []

    def known_costs(self, sigmas: float, classes: int) -> Tensor | None:
        """Tables change little from one step to the next: those of the nearest step that was searched without any. Later ones are not taken, or a step would give other symbols each time."""
        near = [(abs(math.log2(sigmas / step)), costs) for step, costs in self.costs if len(costs) == classes]
        distance, costs = min(near, key=lambda one: one[0], default=(math.inf, None))
        return costs if distance <= _NEAR else None


# ---- models ----


def quantize_model(
    model: nn.Module | Mapping[str, Tensor],
    hessians: Mapping[str, Tensor],
    quantizer: str = "trellis8",
    *,
    bits_per_weight: float | Mapping[str, float] | None = None,
    step_sigmas: float | None = None,
    scale_columns: bool | None = None,
    damping: float = DAMPING,
    rounds: int = ROUNDS,
    survivors: int = 1,
    group: dist.ProcessGroup | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, QuantizedWeight]:
    """`quantize_weight` of every weight of a model (or of its state dict) that has a Hessian, by name. bits_per_weight: for all, or by name.

    In a process group the weights are divided over the ranks, and all ranks get all results; every rank must have the same weights and Hessians. Raises as `quantize_weight`, with the
    name, on every rank."""
    state = model.state_dict() if isinstance(model, nn.Module) else model
    names = [name for name in hessians if name in state]
    if missing := [name for name in hessians if name not in state]:
        raise InvalidArgumentError(f"there is no weight {missing[0]!r}")
    def work(i: int) -> QuantizedWeight:
        name = names[i]
        if isinstance(bits_per_weight, Mapping) and name not in bits_per_weight:
            raise InvalidArgumentError("bits_per_weight does not have it")
        found = quantize_weight(
            state[name],
            hessians[name],
            quantizer,
            bits_per_weight=bits_per_weight[name] if isinstance(bits_per_weight, Mapping) else bits_per_weight,
            step_sigmas=step_sigmas,
            scale_columns=scale_columns,
            damping=damping,
            rounds=rounds,
            survivors=survivors,
        )
        if progress is not None:
            progress(name)
        return found

    costs = [state[name].numel() * state[name].shape[-1] for name in names]
    return weights.under_all_names(dict(zip(names, share(names, costs, [state[name].device for name in names], work, group))), state)

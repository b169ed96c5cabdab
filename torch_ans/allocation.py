"""Bits for many tensors: what each may take such that all together err least.

Errors add up and so do bits, so at the optimum a bit saves the same error in every tensor that is free to have more or fewer of them (Shoham and Gersho 1988: the convex hull
of points of rate and distortion, and a slope). A tensor's curve is traced at some steps; between them the logarithm of the slope is linear in that of the step, as it is where
steps are small.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

#: What a curve is of: a way to quantize a tensor that has a step.
Way = TypeVar("Way")

#: Slopes beyond all that curves have.
FINEST, COARSEST = -200.0, 200.0
# Tensors that may take more bits at the cost of all others: so many are tried.
_FORCED = 4


class Point(NamedTuple):
    """A tensor at one step (log2 of it): its bits and its error, of all its weights."""

    step: float
    bits: float
    error: float


class Curve(Generic[Way]):
    """Bits and error of a tensor, quantized in one way, between the smallest and the largest of some steps. Points that are not on the convex hull are left out."""

    def __init__(self, way: Way, points: Sequence[Point]) -> None:
        self.way = way
        self.points = _hull(points)
        self.least, self.most = self.points[0].step, self.points[-1].step
        # At the middle of two points: error that a bit saves, which grows with the step.
        pairs = list(zip(self.points, self.points[1:]))
        self._steps = [(a.step + b.step) / 2 for a, b in pairs]
        self._slopes = [_log2((b.error - a.error) / (a.bits - b.bits)) for a, b in pairs]

    def shifted(self, bits: float) -> Curve[Way]:
        """With so many more bits at all steps."""
        return Curve(self.way, [point._replace(bits=point.bits + bits) for point in self.points])

    def step_at(self, slope: float) -> float:
        """The step (log2) at which a bit saves 2^slope of error."""
        if not self._steps:
            return self.least
        i = bisect.bisect_left(self._slopes, slope)
        if i == 0:
            step = self._steps[0] + (slope - self._slopes[0]) / 2
        elif i == len(self._slopes):
            step = self._steps[-1] + (slope - self._slopes[-1]) / 2
        else:
            low, high = self._slopes[i - 1], self._slopes[i]
            step = self._steps[i - 1] + (self._steps[i] - self._steps[i - 1]) * (slope - low) / (high - low)
        return min(self.most, max(self.least, step))

    def within(self, bits: float) -> Choice[Way]:
        """The finest step of no more than so many bits; with none, an infinite error."""
        if self.points[-1].bits > bits:
            return Choice(self.way, self.points[-1]._replace(error=math.inf))
        i = next(i for i, point in enumerate(self.points) if point.bits <= bits)
        if i == 0:
            return Choice(self.way, self.points[0])
        a, b = self.points[i - 1], self.points[i]
        return Choice(self.way, self.at(a.step + (b.step - a.step) * (bits - a.bits) / (b.bits - a.bits)))

    def at(self, step: float) -> Point:
        """Between points: bits linear, the logarithm of the error linear."""
        steps = [point.step for point in self.points]
        i = min(max(1, bisect.bisect_left(steps, step)), len(steps) - 1)
        if len(steps) == 1:
            return self.points[0]
        a, b = self.points[i - 1], self.points[i]
        t = (step - a.step) / (b.step - a.step)
        return Point(step, a.bits + t * (b.bits - a.bits), 2 ** (_log2(a.error) + t * (_log2(b.error) - _log2(a.error))))


@dataclass(frozen=True)
class Choice(Generic[Way]):
    """A way for a tensor, and where on its curve."""

    way: Way
    point: Point


def total_bits(choices: Sequence[Choice[Way]]) -> float:
    return sum(choice.point.bits for choice in choices)


def choose(curves: Sequence[Curve[Way]], slope: float) -> Choice[Way]:
    """The way of least error, a bit counting as 2^slope of error."""
    choices = [Choice(curve.way, curve.at(curve.step_at(slope))) for curve in curves]
    return min(choices, key=lambda choice: choice.point.error + 2.0**slope * choice.point.bits)


def choose_by_step(curve: Curve[Way], slope: float, weight: float) -> Choice[Way]:
    """As if steps were so small that errors grew as their squares, `weight` times: then slopes are equal where steps are (but for the weights)."""
    step = (slope - _log2(weight)) / 2
    return Choice(curve.way, curve.at(min(curve.most, max(curve.least, step))))


def fill(at: Callable[[float], Sequence[Choice[Way]]], curves: Sequence[Sequence[Curve[Way]]], bits: float) -> list[Choice[Way]]:
    """Choices of at most so many bits and of least error: at the slope (log2) where their bits come nearest from below. `at`: choices at a slope, whose bits fall as it grows.

    Bits jump where tensors take another way at the same slope. Then so many of these do as there are bits for, those of most bits first. One more takes what is left, or
    what it wants, and all others fewer bits."""
    choices, finer, left = _nearest(at, bits)
    over = sorted((i for i in range(len(choices)) if finer[i].point.bits - choices[i].point.bits > left > 0), key=lambda i: finer[i].point.bits)
    if not over:
        return choices
    candidates = []
    for i in over[:_FORCED]:
        some = list(choices)
        some[i] = min((curve.within(choices[i].point.bits + left) for curve in curves[i]), key=lambda choice: choice.point.error)
        candidates.append(some)
        forced = finer[i]

        def with_forced(slope: float) -> list[Choice[Way]]:
            return [forced if j == i else choice for j, choice in enumerate(at(slope))]

        if total_bits(with_forced(COARSEST)) <= bits:
            candidates.append(_nearest(with_forced, bits)[0])
    return min([choices, *candidates], key=lambda some: sum(choice.point.error for choice in some))


def _nearest(at: Callable[[float], Sequence[Choice[Way]]], bits: float) -> tuple[list[Choice[Way]], Sequence[Choice[Way]], float]:
    """Choices of at most so many bits, those at a slope just below it, and how many bits are left."""
    low, high = FINEST, COARSEST
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if total_bits(at(middle)) > bits else (low, middle)
    choices, finer = list(at(high)), at(low)
    left = bits - total_bits(choices)
    extra = [b.point.bits - a.point.bits for a, b in zip(choices, finer)]
    for i in sorted(range(len(choices)), key=lambda i: -extra[i]):
        if 0 < extra[i] <= left:
            left -= extra[i]
            choices[i] = finer[i]
    return choices, finer, left


def _hull(points: Sequence[Point]) -> list[Point]:
    """Those of which no mixture of others is better, by steps: the lower convex hull of bits and errors."""
    hull: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.bits, p.error)):
        while hull and hull[-1].error >= point.error:  # fewer bits, and no more error
            hull.pop()
        if hull and (hull[-1].bits == point.bits or hull[-1].step >= point.step):  # bits fall as steps grow, but for noise
            continue
        while len(hull) > 1 and _cross(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return hull


def _cross(a: Point, b: Point, c: Point) -> float:
    """Positive where b lies below the line from a to c; bits fall from a to c."""
    return (a.bits - b.bits) * (c.error - a.error) - (a.bits - c.bits) * (b.error - a.error)


def _log2(value: float) -> float:
    return math.log2(max(value, 1e-300))

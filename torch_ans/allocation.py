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


def choose(curves: Sequence[Curve[Way]], slope: float) -> Choice[Way]:
    """The way of least error, a bit counting as 2^slope of error."""
    choices = [Choice(curve.way, curve.at(curve.step_at(slope))) for curve in curves]
    return min(choices, key=lambda choice: choice.point.error + 2.0**slope * choice.point.bits)


def slope_for(bits_at: Callable[[float], float], bits: float) -> float:
    """The slope (log2) at which a total of bits, which falls as slopes grow, is met, or the nearest below it. Bisection."""
    low, high = -200.0, 200.0
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if bits_at(middle) > bits else (low, middle)
    return high


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

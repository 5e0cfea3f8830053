"""The data on which `tiny` is pretrained: seeded synthetic pairs of series, none of them predator-prey.

Waveforms, sums of sines, oscillators (van der Pol, FitzHugh-Nagumo, Brusselator, Selkov, Schnakenberg, Stuart-Landau,
Duffing), random planar fields, vector autoregressions, logistic maps and trends. Each family maps (generator, count,
pace) to an array (count, STEPS, 2) of floats in arbitrary units. The cycles of the three chemical oscillators, and
waves that are damped and warped, look much like those of predator and prey. That likeness makes a zero-shot forecast
plausible (docs/tiny.md); the law itself (a logistic prey, a saturating predator) does not occur here.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvjobs.forecasting.codec import Codec, Floats

STEPS = 100
HISTORY = 80
Generator: TypeAlias = np.random.Generator
Family: TypeAlias = Callable[[Generator, int, float], Floats]
"""A function (generator, count, pace) -> (count, STEPS, 2); at a pace of 2 everything is twice as fast."""
Field: TypeAlias = Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]
"""The right-hand side of two coupled equations: (x, y, t) -> (dx/dt, dy/dt), each of shape (count,)."""


def _periods(rng: Generator, count: int, pace: float) -> Floats:
    """Draw periods in samples, about 20 / pace: most series repeat within a window, so they are predictable."""
    periods: Floats = np.clip(np.exp(rng.normal(np.log(20), 0.4, count)), 5, 70) / pace
    return periods


def _envelopes(rng: Generator, count: int, pace: float) -> Floats:
    """Draw the course of an amplitude, (count, STEPS, 1): steady, decaying to a level, or growing to it."""
    time = np.arange(STEPS)
    rate = pace / np.exp(rng.uniform(np.log(6), np.log(150), (count, 1)))
    level = rng.choice([0.0, 0.2, 1.0], (count, 1))
    start = rng.choice([0.1, 1.0, 3.0], (count, 1))
    steady = rng.random((count, 1)) < 0.4  # noqa: PLR2004 - a share
    return np.where(steady, 1.0, level + (start - level) * np.exp(-rate * time))[..., None]


def waveforms(rng: Generator, count: int, pace: float) -> Floats:
    """Draw two shapes of up to six harmonics with one period, every other pair warped by an exponential (spikes)."""
    harmonics = np.arange(1, 7)
    time = np.arange(STEPS)[None, :, None, None]
    omega = (2 * np.pi / _periods(rng, count, pace))[:, None, None, None]
    falls = rng.uniform(0.8, 3.0, (count, 1, 1, 1))
    sizes = rng.normal(size=(count, 1, 2, 6)) / harmonics**falls
    phases = rng.uniform(0, 2 * np.pi, (count, 1, 2, 6))
    wave = (sizes * np.sin(omega * harmonics * time + phases)).sum(-1)
    wave /= np.abs(wave).max(axis=1, keepdims=True)
    return _warped(rng, wave * _envelopes(rng, count, pace))


def sines(rng: Generator, count: int, pace: float) -> Floats:
    """Draw one to three sines of unrelated periods, shared by both variables with other phases and sizes."""
    time = np.arange(STEPS)[None, :, None, None]
    parts = np.arange(3) < rng.integers(1, 4, (count, 1, 1, 1))
    omega = 2 * np.pi * pace / np.exp(rng.uniform(np.log(6), np.log(70), (count, 1, 1, 3)))
    sizes = rng.exponential(size=(count, 1, 2, 3)) * parts
    wave = (sizes * np.sin(omega * time + rng.uniform(0, 2 * np.pi, (count, 1, 2, 3)))).sum(-1)
    wave /= np.abs(wave).max(axis=1, keepdims=True) + 1e-9
    return _warped(rng, wave * _envelopes(rng, count, pace))


def _warped(rng: Generator, wave: Floats) -> Floats:
    sharpness = rng.uniform(0.3, 3.0, (len(wave), 1, 2))
    spiky = rng.random((len(wave), 1, 1)) < 0.5  # noqa: PLR2004 - half of them
    return np.where(spiky, np.exp(np.clip(sharpness * wave, -12, 6)), wave)


def _integrate(field: Field, x: Floats, y: Floats, span: Floats, substeps: int = 24) -> Floats:
    """Integrate by fourth-order Runge-Kutta over STEPS samples of `span` time units in all, (count, STEPS, 2)."""
    step = span / (STEPS * substeps)
    time = np.zeros_like(step)
    samples = np.empty((len(x), STEPS, 2))
    with np.errstate(all="ignore"):  # divergent series are dropped by `pairs`
        for index in range(STEPS):
            samples[:, index, 0], samples[:, index, 1] = x, y
            for _ in range(substeps):
                ax, ay = field(x, y, time)
                bx, by = field(x + step / 2 * ax, y + step / 2 * ay, time + step / 2)
                cx, cy = field(x + step / 2 * bx, y + step / 2 * by, time + step / 2)
                dx, dy = field(x + step * cx, y + step * cy, time + step)
                x = x + step / 6 * (ax + 2 * bx + 2 * cx + dx)
                y = y + step / 6 * (ay + 2 * by + 2 * cy + dy)
                time = time + step
    return samples


def van_der_pol(rng: Generator, count: int, pace: float) -> Floats:
    """Draw van der Pol oscillators, nearly harmonic to relaxation: x'' = mu (1 - x^2) x' - x."""
    mu = np.exp(rng.uniform(np.log(0.1), np.log(5), count))
    cycles = STEPS / _periods(rng, count, pace)
    period = 2 * np.pi * (1 + 0.15 * mu)  # the limit cycle's, roughly
    x, y = rng.uniform(-2, 2, (2, count))
    return _integrate(lambda x, y, _: (y, mu * (1 - x * x) * y - x), x, y, cycles * period)


def fitzhugh_nagumo(rng: Generator, count: int, pace: float) -> Floats:
    """Draw neurons that fire or come to rest: v' = v - v^3/3 - w + I, w' = e (v + a - b w)."""
    a, b = rng.uniform(0.5, 0.9, count), rng.uniform(0.4, 0.9, count)
    rate, current = rng.uniform(0.05, 0.2, count), rng.uniform(0.2, 1.2, count)
    x, y = rng.uniform(-2, 2, (2, count))
    span = STEPS / _periods(rng, count, pace) * 3.5 / rate
    return _integrate(lambda v, w, _: (v - v**3 / 3 - w + current, rate * (v + a - b * w)), x, y, span)


def brusselator(rng: Generator, count: int, pace: float) -> Floats:
    """Draw two chemicals: x' = a - (b + 1) x + x^2 y, y' = b x - x^2 y; spiralling in or to a cycle."""
    a = rng.uniform(0.6, 1.6, count)
    b = (1 + a * a) * rng.uniform(0.75, 1.6, count)
    x, y = rng.uniform(0.2, 2.5, (2, count))
    span = STEPS / _periods(rng, count, pace) * 2 * np.pi / a
    return _integrate(lambda x, y, _: (a - (b + 1) * x + x * x * y, b * x - x * x * y), x, y, span)


def selkov(rng: Generator, count: int, pace: float) -> Floats:
    """Draw glycolysis: x' = -x + a y + x^2 y, y' = b - a y - x^2 y; spiralling in or to a cycle."""
    a, b = rng.uniform(0.04, 0.13, count), rng.uniform(0.35, 0.95, count)
    x, y = rng.uniform(0.2, 2.0, (2, count))
    span = STEPS / _periods(rng, count, pace) * 2 * np.pi / np.sqrt(a + b * b)
    return _integrate(lambda x, y, _: (-x + a * y + x * x * y, b - a * y - x * x * y), x, y, span)


def schnakenberg(rng: Generator, count: int, pace: float) -> Floats:
    """Draw two other chemicals: x' = a - x + x^2 y, y' = b - x^2 y; spiralling in or to a cycle."""
    a, b = rng.uniform(0.02, 0.2, count), rng.uniform(0.3, 1.1, count)
    x, y = rng.uniform(0.2, 2.0, (2, count))
    span = STEPS / _periods(rng, count, pace) * 2 * np.pi / (a + b)
    return _integrate(lambda x, y, _: (a - x + x * x * y, b - x * x * y), x, y, span)


def stuart_landau(rng: Generator, count: int, pace: float) -> Floats:
    """Draw oscillations near onset: r' = m (1 - r^2) r, angle' = 1 + s r^2 / (1 + r^2); mixed, half of them warped."""
    growth, shear = rng.normal(0, 0.15, count), rng.uniform(-0.4, 0.6, count)
    radius, angle = np.exp(rng.normal(0, 0.7, count)), rng.uniform(0, 2 * np.pi, count)
    span = STEPS / _periods(rng, count, pace) * 2 * np.pi

    def field(x: Floats, y: Floats, _: Floats) -> tuple[Floats, Floats]:
        square = x * x + y * y
        # Below onset the spiral goes to rest; above it, to the circle of radius 1.
        pull, turn = growth * (1 - np.where(growth > 0, square, 0)), 1 + shear * square / (1 + square)
        return pull * x - turn * y, turn * x + pull * y

    wave = _integrate(field, radius * np.cos(angle), radius * np.sin(angle), span)
    mix = np.eye(2) + rng.normal(0, 0.4, (count, 2, 2))
    return _warped(rng, np.einsum("nij,ntj->nti", mix, wave))


def duffing(rng: Generator, count: int, pace: float) -> Floats:
    """Draw stiffening or double-well springs, damped, half of the pairs driven."""
    damping = np.exp(rng.uniform(np.log(0.01), np.log(0.4), count))
    linear, cubic = rng.choice([-1.0, 0.5, 1.0], count), rng.uniform(0.2, 1.5, count)
    force = rng.uniform(0, 0.6, count) * (rng.random(count) < 0.5)  # noqa: PLR2004 - half of them
    omega = rng.uniform(0.5, 1.6, count)
    x, y = rng.uniform(-2, 2, (2, count))
    span = STEPS / _periods(rng, count, pace) * 2 * np.pi
    return _integrate(
        lambda x, y, t: (y, force * np.cos(omega * t) - damping * y - linear * x - cubic * x**3), x, y, span
    )


def autoregressions(rng: Generator, count: int, pace: float) -> Floats:
    """Draw vector autoregressions of order one: a damped rotation under a random mixing, with some noise."""
    angle = 2 * np.pi / _periods(rng, count, pace)
    decay = 1 - np.exp(rng.uniform(np.log(1e-4), np.log(0.1), count))
    turn = decay[:, None, None] * np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2
    )
    noise = np.exp(rng.uniform(np.log(1e-3), np.log(0.2), (count, 1)))
    mix = rng.normal(size=(count, 2, 2))
    state = rng.normal(size=(count, 2))
    samples = np.empty((count, STEPS, 2))
    for index in range(STEPS):
        samples[:, index] = np.einsum("nij,nj->ni", mix, state)
        state = np.einsum("nij,nj->ni", turn, state) + noise * rng.normal(size=(count, 2))
    return samples


def logistic_maps(rng: Generator, count: int, _: float) -> Floats:
    """Draw two weakly coupled logistic maps, x -> r x (1 - x): steady, periodic or chaotic."""
    rates, coupling = rng.uniform(2.6, 4.0, (count, 2)), rng.uniform(0, 0.2, (count, 1))
    state = rng.uniform(0.1, 0.9, (count, 2))
    samples = np.empty((count, STEPS, 2))
    for index in range(STEPS):
        samples[:, index] = state
        mapped = rates * state * (1 - state)
        state = (1 - coupling) * mapped + coupling * mapped[:, ::-1]
    return samples


def trends(rng: Generator, count: int, _: float) -> Floats:
    """Draw lines, saturating growth and decay, each with a little noise."""
    time = np.linspace(0, 1, STEPS)[None, :, None]
    slope, rate = rng.normal(size=(count, 1, 2)), rng.uniform(1, 12, (count, 1, 2))
    middle = rng.uniform(0, 1, (count, 1, 2))
    shapes = np.stack([slope * time, slope * np.exp(-rate * time), slope / (1 + np.exp(-rate * (time - middle)))])
    choice = rng.integers(0, 3, count)
    noise = np.exp(rng.uniform(np.log(1e-3), np.log(0.1), (count, 1, 1))) * rng.normal(size=(count, STEPS, 2))
    return shapes[choice, np.arange(count)] + noise * np.abs(slope)


def polynomial_fields(rng: Generator, count: int, pace: float) -> Floats:
    """Draw planar fields with random quadratic and cubic terms around a spiral, kept bounded; half of them warped."""
    growth, quadratic = rng.normal(0.25, 0.25, count), rng.normal(0, 0.5, (2, 3, count))
    cubic, hold = rng.normal(0, 0.3, (2, 4, count)), np.exp(rng.normal(-0.7, 0.6, count))
    x, y = rng.normal(0, 0.8, (2, count))
    span = STEPS / _periods(rng, count, pace) * 2 * np.pi

    def field(x: Floats, y: Floats, _: Floats) -> tuple[Floats, Floats]:
        second, third = (x * x, x * y, y * y), (x**3, x * x * y, x * y * y, y**3)
        pull = growth - hold * (x * x + y * y)
        bend = [
            sum(q * term for q, term in zip(quadratic[row], second, strict=True))
            + sum(c * term for c, term in zip(cubic[row], third, strict=True))
            for row in range(2)
        ]
        return pull * x - y + bend[0], x + pull * y + bend[1]

    wave = _integrate(field, x, y, span, substeps=10)
    size = np.abs(wave).max(axis=1, keepdims=True)
    return _warped(rng, np.where(np.isfinite(size), wave / (size + 1e-9), np.nan))


MIX: tuple[tuple[Family, float], ...] = (
    (waveforms, 0.20),
    (sines, 0.05),
    (van_der_pol, 0.08),
    (fitzhugh_nagumo, 0.08),
    (brusselator, 0.20),
    (selkov, 0.11),
    (schnakenberg, 0.11),
    (stuart_landau, 0.08),
    (duffing, 0.04),
    (autoregressions, 0.02),
    (logistic_maps, 0.01),
    (trends, 0.02),
)
"""The families and their shares of the pairs."""
WIDE_MIX: tuple[tuple[Family, float], ...] = (
    (waveforms, 0.16),
    (sines, 0.04),
    (van_der_pol, 0.08),
    (fitzhugh_nagumo, 0.08),
    (polynomial_fields, 0.14),
    (brusselator, 0.16),
    (selkov, 0.09),
    (schnakenberg, 0.09),
    (stuart_landau, 0.07),
    (duffing, 0.04),
    (autoregressions, 0.02),
    (logistic_maps, 0.01),
    (trends, 0.02),
)
"""The mix of a second pretraining, half of whose positive pairs are read as powers or logarithms (`_measured`)."""
_POWERS = {1.0: 0.5, 0.5: 0.2, 0.25: 0.1, 0.0: 0.2}
"""The powers as which positive pairs are read, and their shares; 0 is the logarithm."""
_RANGE = 1e6
"""A pair whose values span more than this stays as it is: the least of them would decide the scale of logarithms."""


def _measured(rng: Generator, drawn: Floats) -> Floats:
    """Return some of the positive pairs as powers or logarithms of themselves; both variables alike."""
    positive = (drawn > 0).all(axis=(1, 2)) & (drawn.max(axis=(1, 2)) < _RANGE * drawn.min(axis=(1, 2)))
    power = np.where(positive, rng.choice([*_POWERS], len(drawn), p=[*_POWERS.values()]), 1.0)[:, None, None]
    logs = np.log(np.where(positive[:, None, None], drawn, 1.0))
    return np.where(power == 1, drawn, np.where(power == 0, logs, np.exp(logs * power)))


def pairs(rng: Generator, count: int, codec: Codec, pace: float = 1.0, *, wide: bool = False) -> Floats:
    """Draw scaled pairs (count, STEPS, 2), each value with exactly one digit before the point, of MIX or of WIDE_MIX.

    They are scaled as in use, from the first HISTORY steps. A pair that is not finite, or leaves [0, 10), is drawn
    again.
    """
    mix = WIDE_MIX if wide else MIX
    top = 10 - 0.5 * 10**-codec.decimals
    kept: list[Floats] = []
    have = 0
    while have < count:
        wanted = max(16, 2 * (count - have))
        numbers = rng.multinomial(wanted, [share for _, share in mix])
        drawn = np.concatenate([family(rng, int(n), pace) for (family, _), n in zip(mix, numbers, strict=True) if n])
        drawn = drawn[np.isfinite(drawn).all(axis=(1, 2)) & (np.abs(drawn) < 1e6).all(axis=(1, 2))]  # noqa: PLR2004
        drawn = _measured(rng, drawn) if wide else drawn
        scaled = codec.fit(drawn[:, :HISTORY]).apply(drawn)
        scaled = rng.permutation(scaled[((scaled >= 0) & (scaled < top)).all(axis=(1, 2))])
        kept.append(scaled)
        have += len(scaled)
    return np.concatenate(kept)[:count]


def digits(scaled: NDArray[np.float64], decimals: int) -> NDArray[np.int64]:
    """Return the digits of values in [0, 10), most significant first: (..., 1 + decimals)."""
    units = np.rint(scaled * 10**decimals).astype(np.int64)
    powers = 10 ** np.arange(decimals, -1, -1)
    result: NDArray[np.int64] = units[..., None] // powers % 10
    return result

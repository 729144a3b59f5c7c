r"""Gated MLP of a message between the matrix products, with first and second derivatives: formulas on rows.

A row is one message, of 2 F features: core and gate side by side. With ``s`` the sigmoid,

    x = own[p] + other[q] + W f,   h = silu(x)                  hidden layer (h = x where there is none)
    z = V h + c                                                 core and gate each with its own V and c
    y = gamma n + beta,   n = rho (z - <z>)                     rho = 1 / sqrt(<(z - <z>)^2> + eps)
    m = silu(y_core) s(y_gate),   total[t] += w[v] m

where ``<.>`` is the mean over the F features of core or of gate.

*Backward.* With ``G = w dE/dtotal`` and ``J`` the Jacobian of the norm, which is symmetric,

    dE/dy_core = G silu'(y_core) s(y_gate),   dE/dy_gate = G silu(y_core) s'(y_gate)
    dE/dz = J b,   b = gamma dE/dy,           J b = rho (b - <b> - n <n b>)
    dE/dx = silu'(x) dE/dh

*Double backward.* The gradient of a gradient is computed as the gradient of a directional derivative: the cotangents of
``dE/du`` are a direction ``u'`` in which the inputs move, and the result is the gradient of ``phi = sum dE/dtotal total'``:

    x' = own'[p] + other'[q] + W f',   h' = silu'(x) x',   z' = V h',   n' = J z',   y' = gamma n',
    m' = silu'(y_core) s(y_gate) y'_core + silu(y_core) s'(y_gate) y'_gate,   total'[t] += w'[v] m + w[v] m'

The gradient of phi with respect to a primed quantity is the dE/d(.) of the backward pass. With respect to the others it is,
with ``G' = w' dE/dtotal``,

    dphi/dy_core = G' dm/dy_core + G (silu''(y_core) s(y_gate) y'_core + silu'(y_core) s'(y_gate) y'_gate), and so for the gate
    dphi/dz = J (gamma dphi/dy) - rho (n <b n'> + <n z'> J b + <n b> n')        the last three terms: the gradient of b J z'
    dphi/dx = silu'(x) dphi/dh + silu''(x) x' dE/dh
"""

from typing import NamedTuple, no_type_check  # the tests' run-time checker must not wrap what numba compiles

from xclimb.backends.chgnet_cpu.vectors import INT64, WIDTH, Row, decay

HALVES = (0, WIDTH)  # columns of core and of gate
_EPS = 1e-5  # of torch's LayerNorm


class GateBranch(NamedTuple):
    """Core or gate of one row after its norm."""

    y: Row
    n: Row
    rho: Row
    s: Row  # sigmoid of y
    scale: Row  # gamma


def silu_derivative(x: Row, s: Row) -> Row:
    """``silu'(x)``, from ``s = s(x)``."""
    return s * (1.0 + x * (1.0 - s))


def silu_second_derivative(x: Row, s: Row) -> Row:
    """``silu''(x)``."""
    return s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s))


@no_type_check
def standardised(z: Row, normed) -> tuple[Row, Row]:
    """A row of zero mean and unit variance, and the factor; the row itself and 1 if not ``normed``."""
    centred = z - (z.sum() * (1 / WIDTH)).only_if(normed, 0.0)
    variance = (centred * centred).sum() * (1 / WIDTH)
    scale = (1.0 / (variance + _EPS).sqrt()).only_if(normed, 1.0)
    return centred * scale, scale


@no_type_check
def standardised_backward(b: Row, n: Row, rho: Row, normed) -> tuple[Row, Row]:
    """``J b``, the gradient with respect to the input of :func:`standardised`, and ``<n b>`` (0 if not ``normed``)."""
    mean = (b.sum() * (1 / WIDTH)).only_if(normed, 0.0)
    along = ((b * n).sum() * (1 / WIDTH)).only_if(normed, 0.0)
    return rho * (b - mean - n * along), along


@no_type_check
def gate_branches(z, i, affine, normed) -> tuple[GateBranch, GateBranch]:
    """Core and gate of row i after their norms."""
    core_scale, core_shift, gate_scale, gate_shift = (affine.load(INT64(row)) for row in range(4))
    core_n, core_rho = standardised(z.load(i, 0), normed)
    gate_n, gate_rho = standardised(z.load(i, WIDTH), normed)
    core, gate = core_n * core_scale + core_shift, gate_n * gate_scale + gate_shift
    core_decay, gate_decay = decay(core), decay(gate)
    over = 1.0 / ((1.0 + core_decay) * (1.0 + gate_decay))  # one division for both sigmoids
    s = core.one_where_positive(core_decay) * (1.0 + gate_decay) * over
    g = gate.one_where_positive(gate_decay) * (1.0 + core_decay) * over
    return GateBranch(core, core_n, core_rho, s, core_scale), GateBranch(gate, gate_n, gate_rho, g, gate_scale)

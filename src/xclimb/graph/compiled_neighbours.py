"""The searches of :mod:`xclimb.graph.neighbours` for all crystals of a batch in one call, compiled by numba.

For each pair of atoms the images within reach are listed, not searched for. In an orthonormal basis with x along the first
lattice vector and z normal to the first two, z bounds the multiples of the third vector, then z and y those of the second,
then all three those of the first. This holds for any lattice, skewed or small, and for atoms anywhere.
"""

import math
from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from numba import njit

_SLACK = 1 + 1e-9  # rounding must not lose an image at the bounds; in the end its distance decides
_ANY = -(2**62)

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
@no_type_check
def list_bonds(positions, cells, pbc, offsets, cutoff, ends, vectors):
    """Bonds of all crystals, each once, in the order of centres and neighbours, as far as there is room for them.

    The crystals are given as to :func:`xclimb.graph.neighbours.find_bonds`; ``ends`` ``[room, 2]`` receives centre and
    neighbour, ``vectors`` ``[room, 4]`` vector and squared length. If the number of bonds
    that is returned is larger than the room, the call has to be repeated with more.
    """
    limit = cutoff * cutoff
    reach = limit * _SLACK
    axes, low = np.empty((3, 3)), np.empty((3, 3))
    turned = np.empty((len(positions), 3))  # positions in the orthonormal basis
    n = 0
    for s in range(len(cells)):
        cell, periodic, stop = cells[s], pbc[s], offsets[s + 1]
        _triangular(cell, axes, low)
        for i in range(offsets[s], stop):
            for k in range(3):
                turned[i, k] = positions[i, 0] * axes[k, 0] + positions[i, 1] * axes[k, 1] + positions[i, 2] * axes[k, 2]
        for i in range(offsets[s], stop):
            for j in range(i, stop):
                x, y, z = turned[j, 0] - turned[i, 0], turned[j, 1] - turned[i, 1], turned[j, 2] - turned[i, 2]
                # an atom and its own images: only half of them, the others are the same bonds
                first, after = _multiples(z, low[2, 2], reach, periodic[2], 0 if i == j else _ANY)
                for c in range(first, after):
                    z_c, y_c, x_c = z + c * low[2, 2], y + c * low[2, 1], x + c * low[2, 0]
                    left = reach - z_c * z_c
                    first, after = _multiples(y_c, low[1, 1], left, periodic[1], 0 if i == j and c == 0 else _ANY)
                    for b in range(first, after):
                        y_b, x_b = y_c + b * low[1, 1], x_c + b * low[1, 0]
                        half = i == j and c == 0 and b == 0
                        first, after = _multiples(x_b, low[0, 0], left - y_b * y_b, periodic[0], 1 if half else _ANY)
                        for a in range(first, after):
                            r_x = positions[j, 0] - positions[i, 0] + (a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0])
                            r_y = positions[j, 1] - positions[i, 1] + (a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1])
                            r_z = positions[j, 2] - positions[i, 2] + (a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2])
                            n += _keep(i, j, r_x, r_y, r_z, limit, n, ends, vectors)
    return n


@_compiled
@no_type_check
def list_again(positions, centres, neighbours, images, cutoff, ends, vectors):
    """As :func:`list_bonds`, from a list of pairs and what each adds to the difference of positions, ``images`` ``[P, 3]``."""
    limit = cutoff * cutoff
    n = 0
    for p in range(len(centres)):
        i, j = centres[p], neighbours[p]
        r_x = positions[j, 0] - positions[i, 0] + images[p, 0]
        r_y = positions[j, 1] - positions[i, 1] + images[p, 1]
        r_z = positions[j, 2] - positions[i, 2] + images[p, 2]
        n += _keep(i, j, r_x, r_y, r_z, limit, n, ends, vectors)
    return n


@_compiled
@no_type_check
def _keep(i, j, r_x, r_y, r_z, limit, n, ends, vectors):
    """Write bond n if its squared length is below the limit and there is room; whether it is one."""
    square = r_x * r_x + r_y * r_y + r_z * r_z
    if square < limit and n < len(ends):
        ends[n, 0], ends[n, 1] = i, j
        vectors[n, 0], vectors[n, 1], vectors[n, 2], vectors[n, 3] = r_x, r_y, r_z, square
    return square < limit


@_compiled
@no_type_check
def _triangular(cell, axes, low):
    """Orthonormal basis of a lattice, in the rows of ``axes``, and its vectors in that basis, ``low`` (Gram and Schmidt)."""
    for k in range(3):
        for x in range(3):
            axes[k, x] = cell[k, x]
        for m in range(k):
            low[k, m] = axes[k, 0] * axes[m, 0] + axes[k, 1] * axes[m, 1] + axes[k, 2] * axes[m, 2]
            for x in range(3):
                axes[k, x] -= low[k, m] * axes[m, x]
        low[k, k] = math.sqrt(axes[k, 0] * axes[k, 0] + axes[k, 1] * axes[k, 1] + axes[k, 2] * axes[k, 2])
        for x in range(3):
            axes[k, x] /= low[k, k]


@_compiled
@no_type_check
def _multiples(at, step, reach, periodic, least):
    """First of, and first after, the whole numbers k from ``least`` on with ``(at + k step)^2 <= reach``."""
    if reach < 0.0 or (not periodic and at * at > reach):
        return 0, 0
    if not periodic:
        return max(0, least), 1
    root = math.sqrt(reach)
    return max(math.ceil((-root - at) / step), least), math.floor((root - at) / step) + 1


@_compiled
@no_type_check
def short_first(ends, vectors, n, bond_cutoff):
    """The first n bonds of :func:`list_bonds` as the columns of :class:`xclimb.graph.neighbours.Bonds`."""
    n_short, closest, limit = 0, np.inf, bond_cutoff * bond_cutoff
    for b in range(n):
        n_short += vectors[b, 3] < limit
        closest = min(closest, vectors[b, 3])
    centres, neighbours, sorted_vectors = np.empty(n, np.int64), np.empty(n, np.int64), np.empty((n, 3))
    short, long = 0, n_short
    for b in range(n):
        if vectors[b, 3] < limit:
            place = short
            short += 1
        else:
            place = long
            long += 1
        centres[place], neighbours[place] = ends[b, 0], ends[b, 1]
        for x in range(3):
            sorted_vectors[place, x] = vectors[b, x]
    return centres, neighbours, sorted_vectors, n_short, math.sqrt(closest)


@_compiled
@no_type_check
def find_angles(centres, neighbours, n_atoms):
    """As :func:`xclimb.graph.neighbours.find_angles`, in the same order."""
    n = len(centres)
    place = np.zeros(n_atoms + 1, np.int64)
    for b in range(n):
        place[centres[b] + 1] += 1
        place[neighbours[b] + 1] += 1
    n_angles = 0
    for i in range(n_atoms):
        n_angles += place[i + 1] * (place[i + 1] - 1) // 2
        place[i + 1] += place[i]
    edges = np.empty(2 * n, np.int64)  # grouped by centre; place[i] moves from the start of group i to its end
    for b in range(n):
        edges[place[centres[b]]] = b
        place[centres[b]] += 1
    for b in range(n):
        edges[place[neighbours[b]]] = n + b
        place[neighbours[b]] += 1
    first, second = np.empty(n_angles, np.int64), np.empty(n_angles, np.int64)
    angle, start = 0, 0
    for i in range(n_atoms):
        for p in range(start, place[i]):
            for q in range(p + 1, place[i]):
                first[angle], second[angle] = edges[p], edges[q]
                angle += 1
        start = place[i]
    return first, second

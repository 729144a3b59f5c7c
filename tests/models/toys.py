"""A pair potential that keeps the contract, and what is needed to break it."""

from types import SimpleNamespace

import numpy as np
import torch

from xclimb.graph.batch import GraphSpec, build_batch
from xclimb.models.potential import as_frames


class Pair:
    """Pairs within 6 Å and stronger ones within 3 Å, both smooth, in NumPy and float64; a class attribute a way to spoil it."""

    cutoff, bond_cutoff = 6.0, 3.0
    power = 3  # smoothness at the cutoffs
    stretch = np.ones(3)  # anisotropy

    def predict(self, x):
        frames, single = as_frames(x)
        out = [self.answer(frames[s]) for s in range(len(frames))]
        return out[0] if single else out

    def answer(self, frame):
        batch = build_batch(frame, GraphSpec(self.cutoff, self.bond_cutoff), torch.float64)
        vectors, i, j = batch.vectors.numpy(), batch.centres.numpy(), batch.neighbours.numpy()
        seen = vectors * self.stretch
        r = np.linalg.norm(seen, axis=1)
        strength = 0.3 * np.outer(*[1 + 0.1 * np.sin(np.arange(119))] * 2)[frame.numbers[i], frame.numbers[j]]
        value, slope = (strength * part for part in self.pair(r))
        count, n = self.pair(r)[0], len(frame.numbers)
        gradient = (slope / np.where(r > 0, r, 1))[:, None] * seen * self.stretch
        forces = np.zeros((n, 3))
        np.add.at(forces, i, gradient)
        np.add.at(forces, j, -gradient)
        volume = float(frame.volumes[0]) or np.inf
        sites = -0.5 * frame.numbers + 0.5 * (np.bincount(i, value, n) + np.bincount(j, value, n))
        magmoms = 1.0 * np.bincount(i, count, n) + np.bincount(j, count, n)
        return prediction(sites, forces, vectors.T @ gradient / volume, magmoms)

    def pair(self, r):
        value = slope = np.zeros_like(r)
        for cutoff in (6.0, 3.0):
            inside = np.maximum(1 - (r / cutoff) ** 2, 0)
            value = value + inside**self.power
            slope = slope - np.where(r < cutoff, self.power * inside ** (self.power - 1) * 2 * r / cutoff**2, 0)
        return value, slope


def prediction(sites, forces, stress, magmoms):
    energy = float(np.sum(sites))
    return SimpleNamespace(
        energy=energy, energy_per_atom=energy / len(sites), forces=forces, stress=stress, magmoms=magmoms, site_energies=sites
    )


class Spoiled(Pair):
    """The pair potential with its answers changed: ``after(answer, frame)`` alters one in place."""

    def __init__(self, after):
        self.after = after

    def answer(self, frame):
        out = super().answer(frame)
        self.after(out, frame)
        out.energy_per_atom = out.energy / len(frame.numbers)
        return out


def more_energy(out, per_atom):
    """Adds to the energy and, alike, to the site energies."""
    out.site_energies = out.site_energies + per_atom
    out.energy = float(out.site_energies.sum())
    out.energy_per_atom = out.energy / len(out.site_energies)

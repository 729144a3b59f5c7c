"""CHGNet on flat batches (Deng et al., Nat. Mach. Intell. 5, 1031 (2023)).

The function is that of the ``chgnet`` package, weight for weight (see :mod:`xclimb.models.chgnet.pretrained`); how it is
computed differs: bonds once instead of twice, first layers projected per node, angles of each edge pair shared, one
backward pass with respect to bond vectors that gives forces and virial together, and no graph of that backward pass
unless it is trained.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xclimb.graph.batch import Batch
from xclimb.models.base import Network
from xclimb.models.chgnet.basis import Fourier, RadialBessel
from xclimb.models.chgnet.layers import AngleUpdate, AtomConv, BondConv, LineGraph, linear

MAX_Z = 94  # elements H to Pu


@dataclass(frozen=True)
class CHGNetConfig:
    """Architecture of a CHGNet; the defaults are those of 0.3.0 and of the r2SCAN weights."""

    width: int = 64
    n_blocks: int = 4
    n_radial: int = 31
    n_angular: int = 31
    cutoff: float = 6.0  # Å, atom graph
    bond_cutoff: float = 3.0  # Å, bonds that form angles
    envelope_power: int = 8
    readout_layers: int = 3
    norm: bool = True
    out_bias: bool = False


class CHGNet(Network):
    """Crystal Hamiltonian Graph neural Network: energies and magnetic moments of a batch, forces and stress by one gradient.

    Args:
        config: the architecture.
    """

    def __init__(self, config: CHGNetConfig | None = None):
        super().__init__()
        self.config = config = config or CHGNetConfig()
        width, blocks = config.width, config.n_blocks
        self.atom_embedding = nn.Embedding(MAX_Z, width)
        self.radial = RadialBessel(config.n_radial, config.cutoff, config.envelope_power)
        self.short_radial = RadialBessel(config.n_radial, config.bond_cutoff, config.envelope_power)
        self.angular = Fourier(config.n_angular)
        self.bond_embedding = nn.Linear(config.n_radial, width, bias=False)
        self.atom_weights = nn.Linear(config.n_radial, width, bias=False)
        self.bond_weights = nn.Linear(config.n_radial, width, bias=False)
        self.angle_embedding = nn.Linear(config.n_angular, width, bias=False)
        self.atom_convs = nn.ModuleList(AtomConv(width, config.norm, config.out_bias) for _ in range(blocks))
        self.bond_convs = nn.ModuleList(BondConv(width, config.norm, config.out_bias) for _ in range(blocks - 1))
        # angles are not read after the last bond convolution: the update there in the pre-trained files is left out
        self.angle_updates = nn.ModuleList(AngleUpdate(width, config.norm) for _ in range(blocks - 2))
        self.magmom = nn.Linear(width, 1)
        self.readout_norm = nn.LayerNorm(width) if config.norm else nn.Identity()
        layers: list[nn.Module] = []
        for _ in range(config.readout_layers):
            layers += [linear(width, width, width, bias=True), nn.SiLU()]
        self.readout = nn.Sequential(*layers, nn.Linear(width, 1))

    @property
    def layers(self) -> list[nn.Module]:
        """The updates of atoms, bonds and angles: where nearly all of the arithmetic is."""
        return [*self.atom_convs, *self.bond_convs, *self.angle_updates]

    @property
    def energy_layer(self) -> nn.Linear:
        """Last layer of the readout."""
        layer: nn.Linear = self.readout[-1]
        return layer

    def sites(self, batch: Batch, vectors: Float[Tensor, "bonds 3"]) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms"]]:
        """Site energies (eV) and magnetic moments (µB) as functions of the bond vectors."""
        line = line_graph(batch)
        bonds, atom_weights, bond_weights, angle = self.embed(batch, vectors, line)
        atoms = self.atom_embedding(batch.numbers - 1)  # [A, F]
        angles = (angle, angle)  # one opening, seen from either edge

        magnetic = atoms
        for block, atom_conv in enumerate(self.atom_convs):
            magnetic = atoms  # magnetic moments are read before the last block
            atoms = atom_conv(atoms, bonds, atom_weights, batch.centres, batch.neighbours)
            if block < len(self.bond_convs):
                bonds = self.bond_convs[block](atoms, bonds, bond_weights, angles, line)
            if block < len(self.angle_updates):
                angles = self.angle_updates[block](atoms, bonds[: batch.n_short], angles, line)
        return self.site_energies(atoms), self.magmoms(magnetic)

    def embed(
        self, batch: Batch, vectors: Float[Tensor, "bonds 3"], line: LineGraph
    ) -> tuple[
        Float[Tensor, "bonds width"], Float[Tensor, "bonds width"], Float[Tensor, "short width"], Float[Tensor, "angles width"]
    ]:
        """First bond features, weights of bonds in the atom and in the bond convolutions, first angle features."""
        lengths, cosines = geometry(batch, vectors, line)
        return *self.embed_bonds(lengths), *self.embed_short_bonds(lengths[: batch.n_short]), *self.embed_angles(cosines)

    def embed_bonds(self, lengths: Float[Tensor, "bonds"]) -> tuple[Float[Tensor, "bonds width"], Float[Tensor, "bonds width"]]:
        """First features of bonds, and their weights in the atom convolutions, of lengths in Å."""
        radial = self.radial(lengths)  # [B, 31]
        return self.bond_embedding(radial), self.atom_weights(radial)

    def embed_short_bonds(self, lengths: Float[Tensor, "short"]) -> tuple[Float[Tensor, "short width"]]:
        """Weights of short bonds in the bond convolutions."""
        return (self.bond_weights(self.short_radial(lengths)),)

    def embed_angles(self, cosines: Float[Tensor, "angles"]) -> tuple[Float[Tensor, "angles width"]]:
        """First features of angles."""
        return (self.angle_embedding(self.angular(cosines)),)

    def site_energies(self, atoms: Float[Tensor, "atoms width"]) -> Float[Tensor, "atoms"]:
        """Energy of each atom, eV, from the last atom features."""
        return self.readout(self.readout_norm(atoms)).squeeze(1)  # [A]

    def magmoms(self, atoms: Float[Tensor, "atoms width"]) -> Float[Tensor, "atoms"]:
        """Magnetic moment of each atom, µB, from the atom features before the last block."""
        return self.magmom(atoms).squeeze(1).abs()  # [A]


def line_graph(batch: Batch) -> LineGraph:
    """The short directed edges of a batch and the angles between them."""
    short = batch.n_short
    centres = torch.cat([batch.centres[:short], batch.neighbours[:short]])  # [2s]
    return LineGraph(centres, batch.first, batch.second, batch.first % max(short, 1), batch.second % max(short, 1))


def geometry(
    batch: Batch, vectors: Float[Tensor, "bonds 3"], line: LineGraph
) -> tuple[Float[Tensor, "bonds"], Float[Tensor, "angles"]]:
    """Length of each bond, Å, and cosine of each angle; a bond has the opposite direction at its other atom."""
    lengths, short = vectors.norm(dim=1), batch.n_short  # [B]
    directions = vectors[:short] / lengths[:short, None]  # [s, 3]
    outward = torch.cat([directions, -directions])  # [2s, 3]
    return lengths, (outward.index_select(0, line.first) * outward.index_select(0, line.second)).sum(1)

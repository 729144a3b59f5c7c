"""CHGNet: network, layers, basis functions, pre-trained weights, and its entry in the registry of architectures."""

from functools import partial

from xclimb.data.theory import LevelOfTheory
from xclimb.graph.batch import GraphSpec
from xclimb.models.base import Architecture, Pretrained, register
from xclimb.models.chgnet.network import MAX_Z, CHGNet, CHGNetConfig
from xclimb.models.chgnet.pretrained import read_potential

__all__ = ["MAX_Z", "CHGNet", "CHGNetConfig"]

_GGA = LevelOfTheory(
    "GGA/GGA+U", corrections="MP2020", code="VASP", pseudopotentials="PAW PBE (MPRelaxSet)", energy_flavour="e_0"
)
_R2SCAN = LevelOfTheory("r2SCAN", code="VASP", pseudopotentials="PAW PBE_54 (MPScanRelaxSet)", energy_flavour="e_0")

# name -> (level of theory, elements without data in the table of references, summary)
_WEIGHTS = {
    "chgnet-0.2.0": (_GGA, (84, 85, 86, 87, 88), "CHGNet 0.2.0, MPtrj, kept for comparison"),
    "chgnet-0.3.0": (_GGA, (84, 85, 86, 87, 88), "CHGNet 0.3.0, MPtrj (1.58 M structures)"),
    "chgnet-r2scan": (_R2SCAN, (70, 84, 85, 86, 87, 88), "CHGNet transferred to MP-r2SCAN (0.24 M structures)"),
}


def _graph(config: CHGNetConfig) -> GraphSpec:
    return GraphSpec(config.cutoff, config.bond_cutoff)


register(
    Architecture(
        kind="chgnet",
        summary="messages between atoms, bonds and angles, magnetic moments (Nat. Mach. Intell. 5, 1031)",
        config=CHGNetConfig,
        network=CHGNet,
        graph=_graph,
        elements=range(1, MAX_Z + 1),
        pretrained={
            name: Pretrained(summary, partial(read_potential, name, theory, uncovered))
            for name, (theory, uncovered, summary) in _WEIGHTS.items()
        },
        backends={"cpu": "xclimb.backends.chgnet_cpu"},
        largest={"n_blocks": 100, "readout_layers": 100, "cutoff": 20, "bond_cutoff": 20, "envelope_power": 100},
        packages=("chgnet",),
    )
)

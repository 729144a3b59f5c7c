"""Files of MACE, GAP (QUIP), NequIP and GPUMD: extended XYZ with names of their own."""

from ingest.corpus import Case
from ingest.corpus.extxyz import FORCES, frame, text_file

STRESS = [0.01, 0, 0, 0, 0.01, 0, 0, 0, 0.01]
VIRIAL = '"-0.64 0 0 0 -0.64 0 0 0 -0.64"'  # of a cell of 64 Å^3
EVERY = {"energy": [-7.0], "forces": FORCES, "stress": STRESS}
ALONE = '1\nLattice="20 0 0 0 20 0 0 0 20" Properties=species:S:1:pos:R:3 REF_energy=-0.2 config_type=IsolatedAtom\nCu 0 0 0\n'

CASES = [
    Case(
        "REF_energy, REF_forces, REF_stress",
        "MACE",
        text_file("train.xyz", frame('REF_energy=-7.0 REF_stress="0.01 0 0 0 0.01 0 0 0 0.01"', "REF_forces")),
        labels=EVERY,
    ),
    Case(
        "isolated atoms beside a crystal",
        "MACE",
        text_file("train.xyz", frame("REF_energy=-7.0 config_type=Default config_weight=2.0", "REF_forces") + ALONE),
        kept=2,
        labels={"energy": [-7.0], "forces": FORCES},
        note="kept as energies of the atoms, in no split and no training",
    ),
    Case(
        "predictions beside references",
        "MACE",
        text_file("out.xyz", frame("REF_energy=-7.0 MACE_energy=-6.9", "REF_forces")),
        labels={"energy": [-7.0], "forces": FORCES},
    ),
    Case(
        "predictions alone",
        "MACE",
        text_file("out.xyz", frame("MACE_energy=-6.9", "MACE_forces")),
        error=r"1 no label; not read as labels: MACE_energy, MACE_forces \(unknown name\); to take one, give energy_key=",
        note="the option that takes them is named",
    ),
    Case(
        "predictions, asked for by name",
        "MACE",
        text_file("out.xyz", frame("MACE_energy=-6.9", "MACE_forces")),
        labels={"energy": [-6.9], "forces": FORCES},
        options={"energy_key": "MACE_energy"},
    ),
    Case(
        "dft_energy, dft_force, dft_virial",
        "GAP",
        text_file("gap.xyz", frame(f"dft_energy=-7.0 dft_virial={VIRIAL}", "dft_force")),
        labels=EVERY,
        note="stress = -virial/V",
    ),
    Case(
        "energy, force, virial",
        "GPUMD (NEP)",
        text_file("train.xyz", frame(f"energy=-7.0 virial={VIRIAL}", "force")),
        labels=EVERY,
        note="stress = -virial/V",
    ),
    Case(
        "energy, virials, forces",
        "QUIP",
        text_file("a.xyz", frame(f"energy=-7.0 virials={VIRIAL}")),
        labels=EVERY,
        note="stress = -virial/V",
    ),
    Case(
        "total_energy, forces",
        "NequIP",
        text_file("a.xyz", frame("total_energy=-7.0")),
        labels={"energy": [-7.0], "forces": FORCES},
    ),
    Case(
        "a virial that is not minus stress times volume",
        "GPUMD (NEP)",
        text_file("train.xyz", frame(f'energy=-7.0 stress="1 0 0 0 1 0 0 0 1" virial={VIRIAL}')),
        labels={"energy": [-7.0], "forces": FORCES},
        note="neither is read, both are named",
    ),
]

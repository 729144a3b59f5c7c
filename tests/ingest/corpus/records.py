"""JSON records: the Materials Project, MatPES, mlearn, emmet."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingest.corpus import Case

KBAR = -0.1 / 160.21766208
FORCES = [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]
TENSOR = [[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]]
LABELS = {"energy": [-9.0], "forces": [0.1, 0.2, 0.3], "stress": [KBAR * value for row in TENSOR for value in row]}


def structure() -> dict:
    """A crystal of two atoms as pymatgen writes it."""
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": [at] * 3, "xyz": [4 * at] * 3, "label": symbol, "properties": {}}
        for symbol, at in (("Li", 0.0), ("O", 0.5))
    ]
    lattice = {"matrix": [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]], "pbc": [True] * 3, "a": 4.0, "volume": 64.0}
    return {"@module": "pymatgen.core.structure", "@class": "Structure", "charge": 0, "lattice": lattice, "sites": sites}


def nested(energy: float = -9.0, **changes: Any) -> dict:
    """A record of MPtrj or MP-r2SCAN."""
    made = {"structure": structure(), "uncorrected_total_energy": energy, "force": FORCES, "stress": TENSOR, "magmom": None}
    return made | {"mp_id": "mp-1", "bandgap": 1.0} | changes


def matpes(name: str, **changes: Any) -> dict:
    """A record of MatPES; stress xx yy zz yz xz xy."""
    made = {"structure": structure(), "energy": -9.0, "forces": FORCES, "stress": [10.0, 20.0, 30.0, 3.0, 2.0, 1.0]}
    return made | {"functional": "r2SCAN", "matpes_id": name, "cohesive_energy_per_atom": -1.0} | changes


def mlearn() -> dict:
    """A record of mlearn; virial_stress xx yy zz xy yz xz."""
    outputs = {"energy": -9.0, "forces": FORCES, "virial_stress": [10.0, 20.0, 30.0, 1.0, 3.0, 2.0]}
    return {"structure": structure(), "outputs": outputs, "group": "Elastic", "tag": "train", "num_atoms": 2}


def task(name: str, energies: tuple[float, ...] = (-9.0, -9.5), **changes: Any) -> dict:
    """A task document of emmet."""
    steps = [
        {"e_fr_energy": energy, "e_0_energy": energy, "structure": structure(), "forces": FORCES, "stress": TENSOR,
         "electronic_steps": [{"e_fr_energy": energy, "e_0_energy": energy}] * 3}
        for energy in energies
    ]  # fmt: skip
    inputs = {"incar": {"METAGGA": "R2scan", "NELM": 100}, "structure": structure()}
    output = {"structure": structure(), "energy": energies[-1], "forces": FORCES, "stress": TENSOR}
    made = {"task_id": name, "input": inputs, "output": output, "run_type": "r2SCAN", "calc_type": "r2SCAN Static"}
    return made | {"calcs_reversed": [{"input": inputs, "output": {"ionic_steps": steps}}]} | changes


def json_file(name: str, data: Any, cut: int = 0) -> Callable[[Path], Path]:
    """A function that writes data as JSON; a tuple as JSON lines. The last ``cut`` bytes are left out."""

    def write(folder: Path) -> Path:
        text = "\n".join(map(json.dumps, data)) if isinstance(data, tuple) else json.dumps(data)
        content = text.encode()[: len(text) - cut]
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return folder / name

    return write


PAIR = {"mp-1": {"mp-1-0-0": nested(), "mp-1-0-1": nested(-9.5)}}
DAMAGED = json.loads(json.dumps(PAIR))
DAMAGED["mp-1"]["mp-1-0-1"]["force"] = [[0.0, 0.0, 0.0]]
OUTPUT_ALONE = {key: task("mp-1", (-9.0,))[key] for key in ("task_id", "output", "run_type")}

CASES = [
    Case("nested JSON", "MP-r2SCAN", json_file("a.json", PAIR), 2, labels=LABELS, options={"functional": "r2SCAN"}),
    Case(
        "nested JSON, compressed", "MPtrj", json_file("a.json.gz", PAIR), 2, labels=LABELS, options={"functional": "GGA/GGA+U"}
    ),
    Case("a record with forces of another shape", "MPtrj", json_file("a.json", DAMAGED), 1, {"unusable label": 1}, LABELS),
    Case("JSON that breaks off", "MPtrj", json_file("a.json", PAIR, cut=200), 1, {"file cannot be read": 1}, LABELS),
    Case("list", "MatPES", json_file("a.json", [matpes("a"), matpes("b", energy=-9.5)]), 2, labels=LABELS),
    Case("JSON lines", "MatPES", json_file("a.jsonl", (matpes("a"), matpes("b", energy=-9.5))), 2, labels=LABELS),
    Case(
        "two functionals in a file",
        "MatPES",
        json_file("a.json", [matpes("a"), matpes("b", functional="PBE")]),
        labels=LABELS,
        options={"only": "r2SCAN"},
        note="the other is passed over, and named",
    ),
    Case(
        "labels in outputs",
        "mlearn, maml",
        json_file("training.json", [mlearn()]),
        labels=LABELS,
        options={"functional": "PBE"},
    ),
    Case("one task document", "emmet", json_file("task.json", task("mp-1")), 2, labels=LABELS, note="every ionic step"),
    Case(
        "list of task documents", "emmet", json_file("tasks.json.gz", [task("mp-1"), task("mp-2", (-8.0,))]), 3, labels=LABELS
    ),
    Case(
        "task documents as JSON lines",
        "emmet",
        json_file("tasks.jsonl", (task("mp-1"), task("mp-2", (-8.0,)))),
        3,
        labels=LABELS,
    ),
    Case(
        "last steps of task documents",
        "emmet",
        json_file("tasks.json", [task("mp-1", (-9.5, -9.0))]),
        labels=LABELS,
        options={"steps": "last"},
    ),
    Case("answer of the API", "Materials Project", json_file("answer.json", {"data": [task("mp-1")]}), 2, labels=LABELS),
    Case("output alone", "Materials Project", json_file("tasks.json", [OUTPUT_ALONE]), labels=LABELS),
    Case(
        "task document that breaks off",
        "emmet",
        json_file("tasks.jsonl", (task("mp-1"), task("mp-2")), cut=300),
        2,
        {"file cannot be read": 1},
        LABELS,
    ),
]

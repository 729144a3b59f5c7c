"""Make ``src/xclimb/references/tables/elements.json`` from installed packages; ``pip install matcalc`` first.

* Elemental crystals and isolated atoms at PBE and r2SCAN: MatPES, as matcalc ships them (VASP, PBE_64 PAW data sets).
* AtomRef of the pre-trained CHGNet potentials (MPtrj and MP-r2SCAN), as chgnet ships them.
* MP2020 corrections of anions, as pymatgen ships them.
"""

import gzip
import importlib.metadata
import importlib.util
import json
from pathlib import Path

import yaml

from xclimb.models.zoo import load
from xclimb.references.table import AtomRef

OUT = Path(__file__).parents[1] / "src/xclimb/references/tables/elements.json"
ORIGINS = {
    "elemental crystals": "MatPES (Kaplan et al., arXiv 2503.04070), package matcalc {matcalc}, BSD-3-Clause",
    "isolated atoms": "MatPES (Kaplan et al., arXiv 2503.04070), package matcalc {matcalc}, BSD-3-Clause",
    "CHGNet AtomRef": "Deng et al. (2023), Huang et al. (2025), package chgnet {chgnet}, BSD-3-Clause; PBE with MP2020",
}


def matpes(functional: str) -> dict[str, dict]:
    """Document of each element's crystal."""
    folder = Path(importlib.util.find_spec("matcalc").submodule_search_locations[0]) / "elemental_refs"
    return json.loads(gzip.decompress((folder / f"MatPES-{functional}-Element-Refs.json.gz").read_bytes()))


def column(functional: str, key: str) -> dict[str, float]:
    return {symbol: round(entry[key], 6) for symbol, entry in matpes(functional).items()}


def covered(references: AtomRef) -> dict[str, float]:
    return {symbol: round(references.energies[symbol], 6) for symbol in references.materials}


def anions() -> dict[str, float]:
    """MP2020 correction of each anion, eV/atom; oxygen as in oxides (Wang et al., Sci. Rep. 11, 15496 (2021))."""
    folder = Path(importlib.util.find_spec("pymatgen.analysis").submodule_search_locations[0])
    file = next(folder.rglob("MP2020Compatibility.yaml"))
    values = yaml.safe_load(file.read_text())["Corrections"]["CompositionCorrections"]
    symbols = {symbol: value for symbol, value in values.items() if len(symbol) <= 2}
    return {"O": values["oxide"]} | symbols


def main() -> None:
    versions = {name: importlib.metadata.version(name) for name in ("matcalc", "chgnet", "pymatgen")}
    keys = {"elemental crystals": "energy_per_atom", "isolated atoms": "energy_atomic"}
    tables = {name: {functional: column(functional, key) for functional in ("PBE", "r2SCAN")} for name, key in keys.items()}
    tables["CHGNet AtomRef"] = {
        "PBE": covered(load("chgnet-0.3.0").references),
        "r2SCAN": covered(load("chgnet-r2scan").references),
    }
    listed = [
        {"name": name, "code": "VASP", "origin": ORIGINS[name].format(**versions), "energies": energies}
        for name, energies in tables.items()
    ]
    corrections = {
        "name": "MP2020",
        "origin": f"Wang et al., Sci. Rep. 11, 15496 (2021), package pymatgen {versions['pymatgen']}, MIT",
        "anions": anions(),
    }
    OUT.write_text(json.dumps({"tables": listed, "corrections": corrections}, indent=1) + "\n", encoding="utf-8")
    print(f"{OUT.name}: " + ", ".join(f"{one['name']} ({len(one['energies']['r2SCAN'])} elements)" for one in listed))


if __name__ == "__main__":
    main()

"""Task documents of the Materials Project and emmet, and records of mlearn and maml, as records of a structure and labels."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from xclimb.data.theory import LevelOfTheory
from xclimb.formats.vasp.theory import hubbard_of, theory_of
from xclimb.formats.vasp.vasprun import energy_of_step

# run types of the Materials Project and emmet -> functional
RUN_TYPES = {
    "GGA": "PBE", "GGA+U": "PBE+U", "GGA_U": "PBE+U", "PBE": "PBE", "PBE_U": "PBE+U", "PBE+U": "PBE+U", "R2SCAN": "r2SCAN",
    "r2SCAN": "r2SCAN", "SCAN": "SCAN", "PBESol": "PBEsol", "PBEsol": "PBEsol", "LDA": "LDA", "HSE06": "HSE06", "HSE": "HSE06",
    "PBE0": "PBE0",
}  # fmt: skip
_MLEARN_ORDER = [0, 1, 2, 4, 5, 3]  # xx yy zz xy yz xz, as in an OUTCAR -> xx yy zz yz xz xy
_LAST_STEP = ("structure", "energy", "forces", "stress")


def is_task(record: Any) -> bool:
    """Whether a record is a task document: calculations in ``calcs_reversed``, or labels in ``output``."""
    if not isinstance(record, dict):
        return False
    output = record.get("output")
    return isinstance(record.get("calcs_reversed"), list) or (isinstance(output, dict) and "structure" in output)


def mlearn_record(record: dict) -> dict:
    """A record of mlearn or maml, its labels out of ``outputs``; ``virial_stress`` is VASP's, kbar, in the order of an OUTCAR.

    Order and unit: github.com/materialyzeai/mlearn, issue 64.
    """
    outputs = record["outputs"]
    labels = {name: outputs[name] for name in ("energy", "forces") if outputs.get(name) is not None}
    stress = outputs.get("virial_stress", outputs.get("stress"))
    if isinstance(stress, list) and len(stress) == 6:
        stress = [stress[n] for n in _MLEARN_ORDER]
    extras = {name: value for name, value in record.items() if name not in ("outputs", "num_atoms", "element")}
    return extras | labels | ({"stress": stress} if stress is not None else {})


def iter_steps(task: dict, name: str, flavour: str, steps: str) -> Iterator[dict]:
    """The ionic steps of a task document as records of one structure and its labels, in the order of time.

    Args:
        task: the document.
        name: the task, where the document has no id.
        flavour: ``"e_0"`` or ``"free"``.
        steps: ``"all"`` or ``"last"``.
    """
    task_id = next((str(task[key]) for key in ("task_id", "uuid", "_id") if isinstance(task.get(key), str | int)), name)
    calculations = [one for one in reversed(task.get("calcs_reversed") or []) if isinstance(one, dict)]
    records = [
        record | {"theory": _theory(task, calculation, flavour), "frame_id": f"{task_id}{number}#{place}"}
        for n, calculation in enumerate(calculations)
        for number in (f"-{n}" if len(calculations) > 1 else "",)
        for place, record in enumerate(_ionic_steps(calculation, flavour))
    ]
    if not records and isinstance(task.get("output"), dict):
        calculation = calculations[-1] if calculations else {}
        labels = {key: task["output"].get(key) for key in _LAST_STEP}
        records = [labels | {"theory": _theory(task, calculation, flavour), "frame_id": task_id}]
    material = next((task[key] for key in ("material_id", "mp_id") if isinstance(task.get(key), str)), None)
    for record in records[-1:] if steps == "last" else records:
        yield record | ({"material_id": material} if material else {})


def _ionic_steps(calculation: dict, flavour: str) -> Iterator[dict]:
    """The steps of one calculation; what is no object is no step."""
    stated = calculation.get("output")
    output: dict = stated if isinstance(stated, dict) else {}
    ionic = output.get("ionic_steps")
    ionic = [step for step in ionic if isinstance(step, dict)] if isinstance(ionic, list) else []
    for step in ionic:
        structure = step.get("structure")
        yield {
            "structure": _with_moments(structure, output.get("structure")) if step is ionic[-1] else structure,
            "energy": _energy(step, flavour),
            "forces": step.get("forces"),
            "stress": step.get("stress"),
            "converged": _converged(step, calculation),
        }


def _energy(step: dict, flavour: str) -> Any:
    electronic = [one for one in step.get("electronic_steps") or [] if isinstance(one, dict)]
    last = electronic[-1] if electronic else {}
    values = [step.get("e_fr_energy"), step.get("e_0_energy"), last.get("e_0_energy"), last.get("e_fr_energy")]
    free, own, zero, smeared = (float(value) if isinstance(value, int | float) else None for value in values)
    if free is None:
        return own if flavour == "e_0" else None
    return energy_of_step(free, own, zero, smeared, flavour)


def _converged(step: dict, calculation: dict) -> bool:
    """Whether the electronic steps ended before NELM, as far as the document says."""
    stated = [tags["NELM"] for tags in _tag_sets(calculation.get("input")) if isinstance(tags.get("NELM"), int)]
    most = next((n for n in stated if n > 1), 0)  # 1 is the default of response functions, which old parsers took
    done = step.get("num_electronic_steps") or len(step.get("electronic_steps") or [])
    return not (most and isinstance(done, int) and done >= most)


def _with_moments(structure: Any, final: Any) -> Any:
    """The structure of the last step, with the moments that the structure of the output has on the same sites."""
    if not isinstance(structure, dict) or not isinstance(final, dict):
        return structure
    sites, others = structure.get("sites"), final.get("sites")
    if not isinstance(sites, list) or not isinstance(others, list) or len(sites) != len(others):
        return structure
    moments = [(other.get("properties") or {}).get("magmom") if isinstance(other, dict) else None for other in others]
    if not any(isinstance(moment, int | float) for moment in moments) or not all(isinstance(site, dict) for site in sites):
        return structure
    merged = [
        site | {"properties": {"magmom": moment} | (site.get("properties") or {})}
        for site, moment in zip(sites, moments, strict=True)
    ]
    return structure | {"sites": merged}


def _tag_sets(inputs: Any) -> list[dict]:
    """INCAR, then the full list of parameters."""
    sets = [inputs.get(name) for name in ("incar", "parameters")] if isinstance(inputs, dict) else []
    return [one for one in sets if isinstance(one, dict)]


def _theory(task: dict, calculation: dict, flavour: str) -> LevelOfTheory:
    """Level of theory by the tags of a calculation, else of the task; else by its run type."""
    inputs = calculation.get("input") if _tag_sets(calculation.get("input")) else task.get("input")
    sets, inputs = _tag_sets(inputs), inputs if isinstance(inputs, dict) else {}
    tags = {key.upper(): _tag(value) for one in reversed(sets) for key, value in one.items()}
    specs = inputs.get("potcar_spec")
    titles = [str(spec.get("titel")) for spec in specs if isinstance(spec, dict)] if isinstance(specs, list) else []
    potcar = {title.split()[1].split("_")[0]: title for title in titles if len(title.split()) > 1}
    stated = [one["hubbards"] for one in (inputs, task.get("input"), task) if isinstance(one, dict) and _has_hubbards(one)]
    hubbards = stated[0] if stated else None
    hubbard = {str(k): float(v) for k, v in hubbards.items() if v} if hubbards is not None else hubbard_of(tags, list(potcar))
    theory = theory_of(tags, potcar, hubbard, flavour)
    kinds = (calculation.get("run_type"), task.get("run_type"), str(task.get("calc_type") or "").partition(" ")[0])
    run_type = next((RUN_TYPES[str(kind)] for kind in kinds if str(kind) in RUN_TYPES), None)
    return theory if theory.functional or run_type is None else theory.with_functional(run_type)


def _has_hubbards(part: dict) -> bool:
    values = part.get("hubbards")
    return isinstance(values, dict) and all(isinstance(u, int | float) for u in values.values())


def _tag(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return ("T" if value else "F") if isinstance(value, bool | np.bool_) else str(value)

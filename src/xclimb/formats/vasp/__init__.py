"""VASP: ``vasprun.xml`` and the files beside it, and an OUTCAR by itself. Names and contents are those that ASE recognises."""

from pathlib import Path

from xclimb.formats.ase import read_ase
from xclimb.formats.base import Format, register
from xclimb.formats.vasp.outcar import iter_outcar
from xclimb.formats.vasp.tags import outcar_theory, vasprun_theory
from xclimb.formats.vasp.vasprun import ENERGIES, iter_vasprun


def _kind(head: bytes, path: Path) -> str | None:
    return "vasp-xml" if b"<modeling>" in head else None


# of the files of one calculation only one is read: the others repeat it, or part of it
register(
    Format(
        "vasp-xml",
        reads={
            "VASP folders": (
                "every ionic step of `vasprun.xml`, moments of the OUTCAR and the total moment of the OSZICAR beside it"
            )
        },
        iter=iter_vasprun,
        sniff=_kind,
        energies=ENERGIES,
        program="VASP",
        level=lambda source: vasprun_theory(source.path),
        repeats=("vasp-out", "vasp-xdatcar", "vasp"),
    )
)
register(
    Format(
        "vasp-out",
        reads={"an OUTCAR without a `vasprun.xml`": "every ionic step"},
        iter=iter_outcar,
        energies=ENERGIES,
        program="VASP",
        level=lambda source: outcar_theory(source.path),
        repeats=("vasp-xdatcar", "vasp"),
    )
)
register(
    Format(
        "vasp-xdatcar",
        reads={"an XDATCAR without either": "structures"},
        iter=read_ase,
        repeats=("vasp",),
    )
)

"""``sources``: which pre-trained potential a transfer should start from, judged on the user's own frames."""

import math
from typing import Annotated

import typer

from xclimb.cli.options import Data, DataOptions, Functional, Json, read_data, takes_data_options
from xclimb.cli.shell import console, note
from xclimb.cli.tables import fresh_file, make_table, number, to_json, write_whole


@takes_data_options
def sources(
    data: Data,
    potential: Annotated[
        list[str] | None,
        typer.Option("--potential", "-p", metavar="POTENTIAL", help="One to judge, repeatable.", show_default="all names"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the folds of materials.")] = 0,
    functional: Functional = None,
    json: Json = None,
    *,
    reading: DataOptions,
) -> None:
    """Judge pre-trained potentials as sources of a transfer, before any training, by leaving materials out.

    Energies are compared with informed references that were fitted without the material. xclimb transfer --source auto takes
    the first of the table.

    [bold]Examples:[/bold] xclimb sources sample:dft_pairs -f r2SCAN

    xclimb sources data/r2scan -p chgnet-r2scan -p runs/mine
    """
    from xclimb.evaluation.absolute_errors import QUANTITIES, UNITS
    from xclimb.transfer.sources import rank_sources

    ranking = rank_sources(read_data(data, functional, reading), potential, seed)
    screen = console()
    table = make_table("before training,\nmaterials left out", *(f"{name}\n{UNITS[name]}" for name in QUANTITIES), left=(0,))
    for source in ranking.sources:
        table.add_row(source.name, *(number(source.errors[name], 3 if name == "magmom" else 1) for name in QUANTITIES))
    screen.print(table)
    screen.print(ranking.reason, soft_wrap=True)
    for sentence in ranking.refused:
        note(sentence)
    if json is not None:
        rows = [
            {
                "name": one.name,
                "errors": _finite(one.errors),
                "change_from_first": {n: list(ends) for n, ends in one.intervals.items()},
            }
            for one in ranking.sources
        ]
        write_whole(
            fresh_file(json, overwrite=True),
            to_json({"chosen": ranking.chosen, "materials": ranking.n_materials, "sources": rows}),
        )


def _finite(errors: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in errors.items()}

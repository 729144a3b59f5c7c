"""Results as tables for the terminal."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclimb.cli.shell import as_options
from xclimb.cli.tables import NONE, count, listed, make_table, number, spread
from xclimb.errors import counted

if TYPE_CHECKING:
    from rich.console import Console

    from xclimb.comparison.shift import ShiftReport
    from xclimb.comparison.stability import StabilityReport
    from xclimb.ingest import IngestSummary
    from xclimb.references import AtomRef, ReferenceComparison

_ELEMENTS_A_ROW, _ELEMENT = 10, 11  # at most; columns that each takes
_BARS, _FEW_BARS, _NARROW = 40, 20, 110  # of a histogram; what is narrow, in columns

PRIOR_COUNTS = 0.01  # share of the variance before the data from which the prior is named beside them


def show_overview(screen: "Console", name: str, contents: dict[str, Any]) -> None:
    """Print the overview of a data set for ``inspect``."""
    sizes = contents["atoms_per_frame"]
    screen.print(f"{name}: {contents['theory']}", soft_wrap=True)
    text = f"{counted(contents['frames'], 'frame')} of {counted(contents['materials'], 'material')}"
    text += f" ({counted(contents['formulas'], 'formula')})"
    atoms = counted(contents["atoms"], "atom") + (f", {sizes['min']:.0f} to {sizes['max']:.0f} a frame" if sizes else "")
    screen.print(f"{text}, {atoms}")
    if contents["isolated_atoms"]:
        screen.print(f"and {counted(contents['isolated_atoms'], 'isolated atom')}, counted as frames below, not as materials")
    screen.print(
        f"{len(contents['elements'])} elements (frames with each): "
        + listed((f"{el} {n}" for el, n in contents["elements"].items()), 100)
    )
    labels = make_table("label", "frames", "share %")
    for label, n in contents["labels"].items():
        labels.add_row(label, count(n), number(100 * n / contents["frames"], 1) if contents["frames"] else NONE)
    screen.print(labels)
    ranges = make_table("quantity", "min", "mean", "max", "from", "histogram", "to", left=(0, 5, 6))
    ranges.columns[5].no_wrap, most = True, _BARS if screen.width >= _NARROW else _FEW_BARS
    for quantity, values in contents["ranges"].items():
        bins = contents["histograms"][quantity]
        first, last = bins["edges"][0], bins["edges"][-1]
        first = 0.0 if abs(first) < 1e-6 * (last - first) else first
        numbers = (number(values[key]) for key in ("min", "mean", "max"))
        ranges.add_row(quantity, *numbers, f"{first:.3g}", _bars(bins["counts"], most), f"{last:.3g}")
    if contents["ranges"]:
        screen.print(ranges)
    if contents["extras"]:
        screen.print(f"further columns: {', '.join(contents['extras'])}")


def _bars(counts: list[int], width: int) -> str:
    """A histogram in one line, neighbouring bins together where there are too many; a bin that is not empty is never blank."""
    size = -(-len(counts) // width)
    sums = [sum(counts[start : start + size]) for start in range(0, len(counts), size)]
    return "".join(" ▁▂▃▄▅▆▇█"[-(-8 * n // max(sums))] for n in sums)


def show_passed(screen: "Console", passed: Sequence[Path], others: Mapping[str, int] | None = None) -> None:
    """Files of folders that were passed over, each name once with its count; files at other levels of theory."""
    if passed:
        names = Counter(path.name for path in passed).most_common()
        text = listed((name if n == 1 else f"{name} ({count(n)} times)" for name, n in names), 6)
        screen.print(f"passed over {counted(len(passed), 'file')}: {text}", soft_wrap=True)
    if others:
        from xclimb.ingest.levels import listed as listed_levels

        screen.print(f"passed over, at other levels of theory: {listed_levels(others)}", soft_wrap=True)


def show_ingest(screen: "Console", summary: "IngestSummary") -> None:
    """Counts in and out, and where the rejects are listed."""
    screen.print(
        f"{counted(summary.n_in, 'frame')} in {counted(summary.files, 'file')}: {count(summary.n_out)} kept, "
        f"{count(summary.n_rejected)} rejected; level of theory: {summary.theory}"
    )
    for reason, n in sorted(summary.reasons.items(), key=lambda item: -item[1]):
        screen.print(f"  rejected {count(n)}: {reason}")
    for reason, n in sorted(summary.warned.items(), key=lambda item: -item[1]):
        screen.print(f"  kept with a warning {count(n)}: {reason} (warnings.csv)")
    if summary.labels.taken:
        screen.print(f"labels: {summary.labels.describe_used()}", soft_wrap=True)
    if summary.labels.left:
        screen.print(as_options(summary.labels.describe_unused()), style="yellow", soft_wrap=True)
    if summary.isolated:
        text = "not trained on nor split, kept as energies of the atoms"
        screen.print(f"{count(summary.isolated)} of the frames kept are isolated atoms: {text}", soft_wrap=True)
    if summary.resumed:
        screen.print(f"went on with an interrupted ingest: {count(summary.resumed)} pieces were there")
    if summary.n_rejected:
        screen.print(f"each by name: {summary.rejects_path}", soft_wrap=True)
    for sentence in summary.notes:
        screen.print(f"note: {sentence}", style="yellow", soft_wrap=True)
    if summary.theory.functional is None:
        text = "no file says by which functional: give it with --functional, here or to the commands that read the store"
        screen.print(text, style="yellow", soft_wrap=True)
    screen.print(f"store: {summary.path}", soft_wrap=True)
    screen.print(f"look at it: xclimb inspect {summary.path}", soft_wrap=True)
    screen.print(f"split it:   xclimb split {summary.path}", soft_wrap=True)


def show_shift(screen: "Console", report: "ShiftReport") -> None:
    """The shift between two functionals: the figures, then element by element."""
    low, high = report.theory_low.functional or "low", report.theory_high.functional or "high"
    table = make_table(f"shift {low} to {high}", "value", "unit", left=(0, 2))
    for row in _shift_rows(report, low, high):
        table.add_row(*row)
    screen.print(table)
    undetermined = {symbol for group in report.undetermined for symbol in group}
    elements = sorted(report.elements.items(), key=lambda item: -abs(item[1]))
    text = [f"{symbol} {value:+.2f}{'?' if symbol in undetermined else ''}" for symbol, value in elements]
    screen.print(
        "share of each element, eV/atom, largest first"
        + (" (?: only fixed proportions in these data)" if undetermined else "")
        + ":"
    )
    a_row = min(_ELEMENTS_A_ROW, max(1, screen.width // _ELEMENT))
    for start in range(0, len(text), a_row):
        screen.print("  " + "".join(f"{entry:<{_ELEMENT}}" for entry in text[start : start + a_row]).rstrip())
    heads = ("mean shift\neV/atom", "left over\nmeV/atom", "held out\nmeV/atom", "Pearson r\nreferenced")
    families = make_table("family", "pairs", *heads)
    for family in report.families:
        values = (number(family[name], digits) for name, digits in _FAMILY)
        families.add_row(family["family"], count(family["n_pairs"]), *values)
    screen.print(families)
    screen.print(_stability_line(report.stability), soft_wrap=True)
    for line in _importance_lines(report.importance):
        screen.print(line, soft_wrap=True)
    for one in report.advice:
        screen.print(f"- {one['topic']}: {as_options(one['sentence'])}", soft_wrap=True)
    for sentence in (*report.notes, *report.stability.get("notes", ())):
        screen.print(f"note: {sentence}", style="yellow", soft_wrap=True)


def _stability_line(contents: dict) -> str:
    """One line about formation and decomposition energies, or why there are none."""
    if "absent" in contents:
        return contents["absent"]
    named = listed(f"{one['material_id']} (on the {one['stable_on']} side only)" for one in contents["changed"])
    formation, decomposition = (number(contents[f"{name}_mae"], 1) for name in ("formation", "decomposition"))
    return (
        f"stability of {count(contents['n_compounds'])} compounds: formation energies differ by {formation} meV/atom, "
        f"decomposition energies by {decomposition}; stable on one side only: {named or 'none'}"
    )


def _importance_lines(contents: dict) -> list[str]:
    """The elements that matter most, without and with corrections, or the reason that there are none."""
    if "absent" in contents:
        return [contents["absent"]]
    from xclimb.comparison.importance import WORTH

    lines = []
    for name, text in (("plain", "without MP2020 corrections"), ("corrected", "with them")):
        part = contents[name]
        if "absent" in part:
            lines.append(f"  {text}: {part['absent']}")
            continue
        first = sorted(part["importance"].items(), key=lambda item: -item[1])[:8]
        shares = ", ".join(f"{symbol} {100 * share:.0f} %" for symbol, share in first)
        little = "" if part["held_out_r2"] > WORTH else ": means little"
        lines.append(f"  {text}: {shares} (R² {number(part['held_out_r2'], 2)} on compounds held out{little})")
    return [f"elements that a random forest learns the {contents['target']} from:", *lines]


_FAMILY = (("mean", 3), ("left_over_mae", 1), ("held_out_mae", 1), ("pearson_referenced", 4))


def _shift_rows(report: "ShiftReport", low: str, high: str) -> list[tuple[str, str, str]]:
    rows = [
        (f"pairs (by {report.paired_by}), materials", f"{count(report.n_pairs)}, {count(report.n_materials)}", ""),
        (f"mean shift of the energy, {high} - {low}", f"{report.mean:+.3f} ± {number(report.std)}", "eV/atom"),
        ("explained by elemental references", number(100 * report.explained, 2), "% of variance"),
        ("left over after them", number(report.left_over_mae, 1), "meV/atom"),
        ("left over, corrected for the fit", number(report.scatter_mae, 1), "meV/atom"),
        ("left over on materials held out", number(report.held_out_mae, 1), "meV/atom"),
        (
            "correlation of energies, raw to referenced",
            f"{number(report.pearson_raw, 4)} to {number(report.pearson_referenced, 4)}",
            "Pearson r",
        ),
    ]
    if abs(report.volume_change) > 1e-4:
        rows.append(("change of the volume per atom", number(100 * report.volume_change, 2, sign=True), "%"))
    if report.n_forces:
        rows.append(("mean difference of forces", number(1000 * report.forces_mae, 1), "meV/Å"))
        rows.append(("angle between the two forces on an atom", number(report.force_angle, 1), "degrees"))
    if report.n_stress:
        rows.append(("mean difference of stress", number(report.stress_mae, 3), "GPa"))
    if report.n_magmoms:
        rows.append(("mean difference of magnetic moments", number(report.magmom_mae, 3), "µB"))
    return rows


def show_stability(screen: "Console", report: "StabilityReport") -> None:
    """Formation and decomposition energies: the errors, then what changes side of the hull."""
    low, high = (f"{theory} ({side})" for theory, side in ((report.theory_low, "low"), (report.theory_high, "high")))
    screen.print(f"stability in {low} and {high}", soft_wrap=True)
    table = make_table("", "mean |high - low|\nmeV/atom", "mean, high - low\nmeV/atom", "compounds")
    for name, text in (("formation", "formation energy"), ("decomposition", "decomposition energy")):
        errors = [number(getattr(report, f"{name}_mae"), 1), number(getattr(report, f"{name}_mean"), 1, sign=True)]
        table.add_row(text, *errors, count(report.n_compounds if name == "formation" else report.n_hull))
    screen.print(table)
    for line in report.summary()[1:]:
        screen.print(line, soft_wrap=True)
    if report.missing:
        screen.print("energies of the missing elements can be given with --ends-low and --ends-high", soft_wrap=True)


def show_references(screen: "Console", references: "AtomRef", title: str) -> None:
    """Elemental references, then by name which elements no data determined."""
    screen.print(f"{title}: {references.kind}, {references.theory}")
    if references.n_frames:
        text = f"fitted to {counted(references.n_frames, 'frame')} of {counted(references.n_materials, 'material')}"
        fit, held_out = number(references.fit_mae, 1), number(references.held_out_mae, 1)
        screen.print(f"{text}: {fit} meV/atom left over, {held_out} on materials held out")
    table = make_table("element", "energy\neV/atom", "std\neV", "materials", "from", left=(0, 4))
    known, std, materials, share = references.energies, references.std, references.materials, references.prior_share
    undetermined = {symbol for group in references.undetermined for symbol in group}
    kept = [symbol for symbol in known if symbol not in std]
    for symbol in (symbol for symbol in known if symbol in std):
        if symbol not in materials:
            origin = "prior and neighbours"
        elif symbol in undetermined:
            origin = "data, fixed proportions only"
        else:
            origin = "data" if share[symbol] < PRIOR_COUNTS else f"data, {share[symbol]:.0%} of the variance before them left"
        table.add_row(symbol, number(known[symbol], 4), number(std[symbol], 4), str(materials.get(symbol) or NONE), origin)
    screen.print(table)
    name_gaps(screen, references, kept)


def name_gaps(screen: "Console", references: "AtomRef", kept: list[str] | None = None) -> None:
    """Name the elements whose reference no data determined."""
    if kept is None:
        kept = [symbol for symbol in references.energies if symbol not in references.std]
    unknown = [symbol for symbol in references.uncovered if symbol not in references.energies]
    for group in references.undetermined:
        screen.print(f"undetermined: {', '.join(group)} (only fixed proportions in the data)", style="yellow")
    if kept:
        screen.print(f"without data, kept from before ({len(kept)}): {', '.join(kept)}", style="yellow")
    if unknown:
        screen.print(f"without data, unknown ({len(unknown)}): {', '.join(unknown)}", style="yellow")


def show_comparison(screen: "Console", compared: "ReferenceComparison", first: str, second: str) -> None:
    """Two tables of references side by side, the largest differences first."""
    table = make_table("element", f"{first}\neV/atom", f"{second}\neV/atom", "difference\neV/atom", "data in both", left=(0, 4))
    rows = sorted(compared.rows(), key=lambda row: -abs(row["difference"] or 0.0))
    for row in rows:
        values = (number(row["first"], 4), number(row["second"], 4), number(row["difference"], 4, sign=True))
        table.add_row(row["element"], *values, "yes" if row["both_covered"] else "no")
    screen.print(table)
    if math.isfinite(compared.mean):
        screen.print(
            f"{compared.n_both} elements with data in both: mean difference {compared.mean:+.3f} ± {compared.std:.3f} eV/atom, "
            f"correlation with Z²: {number(compared.correlation_z2, 3)}"
        )
        ends = list(compared.largest.items())
        text = " to ".join(f"{value:+.2f} ({symbol})" for symbol, value in (ends[-1], ends[0]))
        screen.print(f"by size from {text} eV/atom")
    for name, symbols in zip((first, second), compared.uncovered, strict=True):
        if symbols:
            screen.print(f"without data in {name} ({len(symbols)}): {listed(symbols, 20)}", style="yellow", soft_wrap=True)


_STUDY = (
    ("energy_mae", "energy\nmeV/atom", 1),
    ("forces_mae", "forces\nmeV/Å", 1),
    ("stress_mae", "stress\nGPa", 3),
    ("magmom_mae", "magmom\nµB", 3),
    ("retention_energy_mae", "on {low}\nmeV/atom", 1),
)


def show_results(screen: "Console", rows: list[dict[str, Any]], title: str, low: str) -> None:
    """The table of a study: one row a model and number of training frames, mean and spread over seeds; the smallest bold."""
    from rich.text import Text

    seeds = {row["seeds"] for row in rows if row["kind"] == "method"}
    sizes = len({row["n_train"] for row in rows})
    over = f", mean ± spread of {seeds.pop()} seeds" if len(seeds) == 1 and seeds != {1} else ""
    screen.print(f"{title}; mean absolute errors{over}", style="bold", soft_wrap=True)
    table = make_table("model", *(header.format(low=low) for _, header, _ in _STUDY))
    known = {key: [row[key] for row in rows if row.get(key) is not None] for key, _, _ in _STUDY}
    for place, row in enumerate(rows):
        cells = []
        for key, _, digits in _STUDY:
            text = spread(row.get(key), row.get(f"{key}_std"), digits)
            text = text.replace(" ±", "\n±") if screen.width < _NARROW else text
            best = known[key] and row.get(key) == min(known[key])
            cells.append(Text(text, style="bold green" if best else ""))
        unlike = f" ({row['seeds']} seeds)" if row["kind"] == "method" and len(seeds) > 1 else ""
        last = place + 1 < len(rows) and rows[place + 1]["kind"] != row["kind"]
        size = f", N = {row['n_train']}" if sizes > 1 else ""
        table.add_row(f"{row['model']}{size}{unlike}", *cells, end_section=last)
    screen.print(table)
    if known["retention_energy_mae"]:
        text = f"on {low}: energy error on {low} labels, residual references refitted for every model alike"
        screen.print(text, soft_wrap=True)

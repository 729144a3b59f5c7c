"""The figures that the cards of paired data sets state, made again, beside what they state.

Usage: python benchmarks/_figures_of_pairs.py FOLDER     the folder that holds dft_pairs/ and teacher_pairs/

A pooled row holds the public files together. Every left-over is that of the fit to the row's own pairs.
"""

import sys
from pathlib import Path

PARTS = ("train", "val", "test")
HEADER = ("set", "pairs", "shift", "std", "r raw", "r referenced", "left over", "r forces", "r stress")
STATED = {
    "dft_pairs": "card: shift -2.519, std 1.366, r 0.816 -> 0.9953, left over 36.3",
    "teacher_pairs, train": "card: left over 64",
    "teacher_pairs, test": "card: r referenced 0.961, left over 72",
    "teacher_pairs, all public": "card: shift -16.74, std 10.90, r 0.244 -> 0.981, r forces 0.977, r stress 0.837",
}


def sets(folder: Path) -> dict[str, list[Path]]:
    """Name of a row -> its files."""
    teacher = {part: folder / "teacher_pairs" / f"teacher_pairs_{part}.parquet" for part in PARTS}
    rows = {"dft_pairs": [folder / "dft_pairs" / "dft_pairs.parquet"]}
    rows |= {f"teacher_pairs, {part}": [file] for part, file in teacher.items()}
    return rows | {"teacher_pairs, train and val": [teacher["train"], teacher["val"]]} | {
        "teacher_pairs, all public": list(teacher.values())
    }  # fmt: skip


def row(name: str, files: list[Path]) -> str:
    """The numbers of one row."""
    import xclimb
    from xclimb.comparison.pairing import pair_frames
    from xclimb.comparison.shift import measure_pairs

    low, high = (
        xclimb.Frames.concatenate([xclimb.read(file, functional=functional) for file in files])
        for functional in ("PBE", "r2SCAN")
    )
    found = measure_pairs(pair_frames(low, high, "frame"))
    values = [f"{found.mean:.3f}", f"{found.std:.3f}", f"{found.pearson_raw:.4f}", f"{found.pearson_referenced:.4f}"]
    values += [f"{found.left_over_mae:.1f}", f"{found.forces_pearson:.4f}", f"{found.stress_pearson:.4f}"]
    return "  ".join((f"{name:<28}", f"{found.n_pairs:>6}", *(f"{value:>12}" for value in values)))


def main() -> None:
    """A table of all sets."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print("  ".join((f"{HEADER[0]:<28}", f"{HEADER[1]:>6}", *(f"{title:>12}" for title in HEADER[2:]))))
    for name, files in sets(Path(sys.argv[1])).items():
        print(row(name, files), flush=True)
        if name in STATED:
            print(f"{'':<36}{STATED[name]}")


if __name__ == "__main__":
    main()

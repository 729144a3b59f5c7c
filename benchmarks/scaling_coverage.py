"""Coverage of the 95 % intervals of slopes: planted laws, synthetic studies, with the kind of law known and chosen by AICc.

Usage: python benchmarks/scaling_coverage.py [STUDIES]      writes benchmarks/results/scaling_coverage.json
"""

import json
import sys
from pathlib import Path

import numpy as np

from xclimb.evaluation.scaling import fit_law

RESULTS = Path(__file__).parent / "results" / "scaling_coverage.json"
SIZES, SEEDS, NOISE, DRAWS = (64, 128, 256, 512, 1024, 2048, 4096, 8192), 3, 0.05, 200
LAWS = ((200.0, 0.35, 0.0), (200.0, 0.35, 8.0), (300.0, 0.5, 15.0))


def coverage(law: tuple[float, float, float], kinds: tuple[str, ...], studies: int) -> dict:
    """Share of synthetic studies whose interval holds the planted slope."""
    a, b, c = law
    n, hits, chosen = np.repeat(np.array(SIZES), SEEDS), 0, 0
    for seed in range(studies):
        errors = (a * n**-b + c) * np.exp(np.random.default_rng([1, seed]).normal(0, NOISE, len(n)))
        fitted = fit_law(n, errors, kinds, draws=DRAWS, seed=seed)
        hits += fitted.slope[0] <= b <= fitted.slope[1]
        chosen += fitted.kind == "offset"
    return {"law": law, "fitted": list(kinds), "coverage": hits / studies, "offset_chosen": chosen / studies}


def main() -> None:
    """Write the coverage of each planted law."""
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rows = []
    for law in LAWS:
        for kinds in (("offset",) if law[2] else ("power",), ("power", "offset")):
            rows.append(coverage(law, kinds, studies))
            print(rows[-1], flush=True)
    settings = {"studies": studies, "sizes": SIZES, "seeds": SEEDS, "noise": NOISE, "draws": DRAWS, "nominal": 0.95}
    RESULTS.write_text(json.dumps(settings | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

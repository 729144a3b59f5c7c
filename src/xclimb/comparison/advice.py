"""Advice about a shift: rules, each a sentence with the numbers it rests on."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xclimb.comparison.bulk import TYPICAL

if TYPE_CHECKING:
    from xclimb.comparison.shift_report import ShiftReport

_EXACT = 1e6  # times smaller than the shift: residuals are rounding errors of energies
_CLEAR = 0.9  # an error below this share of another is called smaller
_TARGET = 10.0  # meV/atom that the references may cost by their own uncertainty
_STRESS_R, _FORCE_R, _UNRELATED = 0.9, 0.95, 0.5
_MOMENTS = 0.3  # µB
_STIFFER = 0.05
_FEW, _SHARE = 3.0, 0.6
_NAMED = 12


def give_advice(report: "ShiftReport") -> list[dict]:
    """Advice of every rule that applies: ``{"topic", "sentence", "numbers"}``, the most important first."""
    return [advice for rule in RULES if (advice := rule(report)) is not None]


def _advice(topic: str, sentence: str, **numbers: Any) -> dict:
    return {"topic": topic, "sentence": sentence, "numbers": numbers}


def theory(report: "ShiftReport") -> dict | None:
    """Levels of theory that differ in more than the functional."""
    differing = report.theory_low.differences(report.theory_high)
    more = {name: sides for name, sides in differing.items() if name != "functional"}
    if not more:
        return None
    detail = "; ".join(f"{name.replace('_', ' ')} {a or 'none'} against {b or 'none'}" for name, (a, b) in more.items())
    return _advice(
        "level of theory",
        f"The two sides differ in more than the functional ({detail}): the shift contains that too; elemental references take "
        "away what is linear in composition, the rest stays in what the network has to learn.",
        **{name: [str(a or "none"), str(b or "none")] for name, (a, b) in more.items()},
    )


def references(report: "ShiftReport") -> dict | None:
    """Kind of references, by the error on materials held out."""
    errors = report.reference_depth.get("errors", {})
    residual, robust, raw = (errors.get(kind, math.nan) for kind in ("residual", "robust", "raw"))
    if not (math.isfinite(residual) and math.isfinite(robust)):
        return None
    kind = "robust" if robust < _CLEAR * residual else "residual"
    best, other = ("robust", "residual") if kind == "robust" else ("residual", "robust")
    refit = errors.get("refit", math.nan)
    beside = " (within a tenth: the simpler kind is taken)" if kind == "residual" and robust < residual else ""
    beside += f"; raw references under the same network leave {refit:.0f}" if math.isfinite(refit) else ""
    return _advice(
        "references",
        "Fit references to the residuals of a potential, as the default kind, informed, does: of linear fits to these pairs "
        f"{best} leaves {errors[best]:.0f} meV/atom on materials held out, {other} {errors[other]:.0f}{beside}; references "
        f"alone, without the low side, leave {raw:.0f}.",
        residual=residual, robust=robust, raw=raw, refit=refit,
    )  # fmt: skip


def alignment(report: "ShiftReport") -> dict | None:
    """Whether the energies can be trained on as they are."""
    if not (report.left_over_mae > 0.0 and math.isfinite(report.std)):
        return None
    size = 1000.0 * math.hypot(report.mean, report.std) / report.left_over_mae
    exact = size > _EXACT  # a constant difference: its remainder is rounding, and a ratio to it means nothing
    numbers: dict[str, Any] = {"mean": report.mean, "std": report.std, "left_over_mae": report.left_over_mae}
    numbers["ratio"] = None if exact else size
    if exact:
        sentence = f"the shift of {report.mean:+.2f} eV/atom is one constant for each element, references describe it exactly"
        return _advice("alignment", f"Align references before any training: {sentence}.", **numbers)
    detail = f"the shift is {report.mean:+.2f} ± {report.std:.2f} eV/atom"
    detail += f", what references leave is {report.left_over_mae:.0f} meV/atom"
    if size > 3.0:
        return _advice("alignment", f"Align references before any training: {detail}, {size:.0f} times less.", **numbers)
    return _advice("alignment", f"References change little here: {detail}.", **numbers)


def composition(report: "ShiftReport") -> dict | None:
    """Whether references that are linear in composition are enough."""
    errors, gain = report.reference_depth.get("errors", {}), report.reference_depth.get("quadratic_gain", math.nan)
    if not math.isfinite(gain):
        return None
    quadratic, linear = errors["quadratic"], errors["residual"]
    detail = f"quadratic terms in composition leave {quadratic:.0f} meV/atom held out, linear references {linear:.0f}"
    if gain > 0.2:
        sentence = f"Linear references are not all that composition can say: {detail}; the network has to learn the difference."
    else:
        sentence = f"Linear references are enough: {detail}; what is left depends on more than composition, or is noise."
    return _advice("composition", sentence, quadratic=quadratic, residual=linear, gain=gain)


def forces(report: "ShiftReport") -> dict | None:
    """Whether forces agree, and whether the high functional is stiffer."""
    if not report.n_forces or not math.isfinite(report.forces_pearson):
        return None
    detail = f"r = {report.forces_pearson:.3f}, slope {report.forces_slope:.3f}"
    detail += f", mean difference {1000 * report.forces_mae:.0f} meV/Å"
    numbers = {"pearson": report.forces_pearson, "slope": report.forces_slope, "mae": report.forces_mae, "n": report.n_forces}
    if report.forces_pearson < _FORCE_R:
        return _advice(
            "forces", f"Forces agree poorly ({detail}): look at the largest differences before training on them.", **numbers
        )
    softer = abs(report.forces_slope - 1.0) > _STIFFER
    side = "stiffer" if report.forces_slope > 1.0 else "softer"
    sentence = (
        f"The high side is {side} ({detail}): transfer has to change curvatures." if softer else f"Forces agree ({detail})."
    )
    return _advice("forces", sentence, **numbers)


def stress(report: "ShiftReport") -> dict | None:
    """Whether stresses may be compared and trained on."""
    if not report.n_stress or not math.isfinite(report.stress_pearson):
        return _advice("stress", "Stresses cannot be compared: no pair of the same structure carries one on both sides.", n=0)
    detail = (
        f"r = {report.stress_pearson:.3f}, mean difference {report.stress_mae:.2f} GPa on {_count(report.n_stress, 'pair')}"
    )
    numbers = {"pearson": report.stress_pearson, "mae": report.stress_mae, "n": report.n_stress}
    if report.stress_pearson < _UNRELATED:
        sentence = f"Stresses are not comparable ({detail}): check sign and unit, and leave them out until that is clear."
    elif report.stress_pearson < _STRESS_R:
        sentence = (
            f"Stresses agree only in part ({detail}): give them little weight, and check the plane-wave cutoff of both sides."
        )
    else:
        low, high = report.intervals.get("pressure_mean", (math.nan, math.nan))
        but = ", but for a systematic difference of the pressure" if low > 0.0 or high < 0.0 else ""
        sentence = f"Stresses are comparable ({detail}){but}."
    return _advice("stress", sentence, **numbers)


def pressure(report: "ShiftReport") -> dict | None:
    """Mean difference of the pressure, and the change of volume to expect of it: dV/V = dP/B to first order."""
    mean, bounds = report.pressure_mean, report.intervals.get("pressure_mean", (math.nan, math.nan))
    if not report.n_stress or not math.isfinite(mean):
        return None
    known = math.isfinite(report.bulk_modulus) and report.bulk_modulus > 0.0
    bulk = report.bulk_modulus if known else TYPICAL
    volume = 100.0 * mean / bulk
    detail = f"{mean:+.2f} GPa"
    numbers = {
        "mean": mean,
        "low": bounds[0],
        "high": bounds[1],
        "bulk_modulus": bulk,
        "volume_percent": volume,
        "n": report.n_bulk,
    }
    if math.isfinite(bounds[0]):
        detail += f" (95 % {bounds[0]:+.2f} to {bounds[1]:+.2f})"
        if bounds[0] <= 0.0 <= bounds[1]:
            sentence = f"No systematic difference of the pressure: {detail}; equilibrium volumes need not change."
            return _advice("pressure", sentence, **numbers)
        volumes = (
            f"{volume:+.1f} % (95 % {100.0 * bounds[0] / bulk:+.1f} to {100.0 * bounds[1] / bulk:+.1f} from the pressure alone)"
        )
    else:
        detail, volumes = f"{detail} (no interval: too few materials)", f"{volume:+.1f} %"
    where = f"the median of {_count(report.n_bulk, 'material')} with frames at several volumes" if known else "a typical value"
    sentence = (
        f"Pressures of the same structures differ by {detail}, high minus low: expect equilibrium volumes to change by "
        f"{volumes}, with a bulk modulus of {bulk:.0f} GPa ({where}); stresses of the two sides are not to be mixed."
    )
    return _advice("pressure", sentence, **numbers)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def magmoms(report: "ShiftReport") -> dict | None:
    """Whether magnetic moments may be trained on."""
    if not report.n_magmoms:
        sentence = "Magnetic moments cannot be compared, as one side has none: train with loss.magmom=0 if it is the high one."
        return _advice("magnetic moments", sentence, n=0)
    detail = f"mean difference {report.magmom_mae:.2f} µB on {_count(report.n_magmoms, 'atom')}"
    if report.magmom_mae > _MOMENTS:
        sentence = f"Magnetic moments differ ({detail}): other spin states or another projection; do not mix them."
    else:
        sentence = f"Magnetic moments are comparable ({detail})."
    return _advice("magnetic moments", sentence, mae=report.magmom_mae, n=report.n_magmoms)


def undetermined(report: "ShiftReport") -> dict | None:
    """Elements that occur only in fixed proportions."""
    if not report.undetermined:
        return None
    groups = "; ".join(" with ".join(group) for group in report.undetermined)
    sentence = (
        f"Only fixed proportions of {groups}: add one material with another proportion of each before trusting their values."
    )
    return _advice("undetermined elements", sentence, groups=[list(group) for group in report.undetermined])


def elements(report: "ShiftReport") -> dict | None:
    """Elements that rest on too little: few materials, one that decides, or an interval wider than the residual."""
    grouped = {symbol for group in report.undetermined for symbol in group}
    wide = 2.0 * report.left_over_rmse / 1000.0
    weak = []
    for symbol, row in report.element_data.items():
        bounds = report.element_intervals.get(symbol, (math.nan, math.nan))
        half = 0.5 * (bounds[1] - bounds[0])
        thin = row["effective_materials"] < _FEW or row["largest_share"] > _SHARE
        if symbol not in grouped and (thin or half > wide):
            weak.append((-half if math.isfinite(half) else -math.inf, symbol, row["materials"], half))
    if not weak:
        return None
    weak.sort()
    detail = ", ".join(
        f"{s} ({n} material{'s' if n != 1 else ''}" + (f", ± {h:.2f} eV)" if math.isfinite(h) else ")")
        for _, s, n, h in weak[:_NAMED]
    )
    rest = f" and {len(weak) - _NAMED} more" if len(weak) > _NAMED else ""
    sentence = f"These elements need more materials: {detail}{rest}."
    return _advice("elements that need data", sentence, elements={s: {"materials": n, "half_width": h} for _, s, n, h in weak})


def amount(report: "ShiftReport") -> dict | None:
    """Number of materials that the noise of the fit calls for.

    The references' own uncertainty adds s^2 K / M to the mean square error of a prediction, s^2 = rmse^2 M / (M - K).
    """
    free = report.n_materials - len(report.elements)
    if free <= 0:
        sentence = (
            f"{report.n_materials} materials cannot determine {len(report.elements)} elements: calculate at least "
            f"{2 * len(report.elements)} materials before anything else."
        )
        return _advice("amount of data", sentence, n_materials=report.n_materials, n_elements=len(report.elements))
    spread = report.left_over_rmse * math.sqrt(report.n_materials / free)
    cost = spread * math.sqrt(len(report.elements) / report.n_materials)
    needed = math.ceil(len(report.elements) * (spread / _TARGET) ** 2)
    numbers = {"noise": spread, "cost": cost, "needed": needed, "n_materials": report.n_materials, "target": _TARGET}
    detail = f"with {spread:.0f} meV/atom of scatter a material and {len(report.elements)} elements, "
    detail += f"{report.n_materials:,} materials"
    if cost <= _TARGET:
        return _advice(
            "amount of data", f"There are materials enough for references: {detail} fix them to {cost:.0f} meV/atom.", **numbers
        )
    sentence = f"References alone cost {cost:.0f} meV/atom: {detail}; about {needed:,} materials bring that to {_TARGET:.0f}."
    return _advice("amount of data", sentence, **numbers)


def relaxed(report: "ShiftReport") -> dict | None:
    """Pairs that were relaxed separately."""
    if not abs(report.volume_change) > 1e-4:
        return None
    sentence = (
        f"The volume per atom changes by {100 * report.volume_change:+.1f} % from low to high: the shift contains relaxation; "
        "label one geometry with both to separate the two."
    )
    return _advice("relaxation", sentence, volume_change=report.volume_change)


RULES: tuple[Callable[["ShiftReport"], dict | None], ...] = (
    theory, alignment, references, composition, undetermined, elements, amount, forces, stress, pressure, magmoms, relaxed,
)  # fmt: skip

"""What methods of time and space learn from real clips and pairs, beside what costs nothing: the bundled recipes.

    python benchmarks/temporal.py [NAME ...] [--json benchmarks/results/temporal.json] [--runs DIR]

Each recipe of `recipes/clips` and `recipes/pairs` is trained in a process of its own, on the beginnings of the clips
(the left of the pair), and asked about their ends. A figure stands beside its baseline: that of the untrained
network, of the more frequent answer, of the mean colour, of the best constant disparity. CPU minutes are those of the
whole process, its start, its figures and its probes too. What the file holds of other recipes is kept.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import origin

ROOT = Path(__file__).parents[1]
MINUTES = 8.0  # of CPU, that a recipe may take
LOWER, HIGHER = -1, 1
# recipe → figure, its baseline (a figure, or a number), which way is better
ASKED: dict[str, list[tuple[str, str | float, int]]] = {
    "clips/shuffle_and_learn": [("order_accuracy", "order_prior", HIGHER), ("order_auc", 0.5, HIGHER)],
    "clips/time_contrastive": [
        ("alignment_error", "alignment_error_untrained", LOWER),
        ("cycle", "cycle_untrained", HIGHER),
    ],
    "clips/siamese_triplet": [
        ("told_apart", "told_apart_untrained", HIGHER),
        ("retrieval", "retrieval_untrained", HIGHER),
        ("retrieval", "retrieval_chance", HIGHER),
    ],
    "clips/video_mae": [("masked_error", "masked_error_of_mean", LOWER)],
    "clips/v_jepa": [("prediction_error", "prediction_error_of_median", LOWER), ("target_spread", 0.1, HIGHER)],
    "clips/monodepth2": [("reprojection_error", "identity_error", LOWER)],
    "pairs/monodepth": [
        ("photometric_error", "photometric_error_of_zero", LOWER),
        ("photometric_error", "photometric_error_of_constant", LOWER),
        ("correlation", 0.0, HIGHER),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(ASKED), help="recipes, as clips/video_mae")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "temporal.json")
    parser.add_argument("--runs", type=Path, help="where the runs stay, with their pictures; nowhere where left out")
    chosen = parser.parse_args()
    rows = json.loads(chosen.json.read_text())["recipes"] if chosen.json.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in chosen.names:
            rows[name] = {**train(name, chosen.runs or Path(scratch)), **origin()}
            chosen.json.write_text(json.dumps({"minutes_allowed": MINUTES, "recipes": rows}, indent=1) + "\n")
            show(name, rows[name])
    if worse := [name for name in chosen.names if not all(one["better"] for one in rows[name]["beside"])]:
        raise SystemExit(f"no better than their baseline: {', '.join(worse)}")


def train(name: str, runs: Path) -> dict[str, Any]:
    """The held-out figures of a recipe, and what they cost."""
    run = runs / name.replace("/", "-")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call = [sys.executable, "-m", "kzoo", "train", f"recipes/{name}.yaml", "--run-dir", str(run)]
    done = subprocess.run(
        [*call, "--set", "export.formats=[]"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr or done.stdout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = json.loads((run / "kzoo.json").read_text())["pretext"]["own"]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    beside = []
    for figure, baseline, way in ASKED[name]:
        value, other = figures[figure], figures[baseline] if isinstance(baseline, str) else baseline
        beside.append(
            {
                "figure": figure,
                "value": value,
                "baseline": baseline,
                "worth": other,
                "better": way * (value - other) > 0,
            }
        )
    return {"cpu_minutes": round(seconds / 60, 1), "beside": beside, "figures": figures}


def show(name: str, row: dict[str, Any]) -> None:
    print(f"{name}: {row['cpu_minutes']} CPU minutes", flush=True)
    for one in row["beside"]:
        sign = "better than" if one["better"] else "NO better than"
        what = one["baseline"] if isinstance(one["baseline"], str) else "without learning"
        print(f"  {one['figure']:22} {one['value']:.4f}   {sign} {one['worth']:.4f}, {what}", flush=True)
    rest = {key: value for key, value in row["figures"].items() if key not in {one["figure"] for one in row["beside"]}}
    print("  " + ", ".join(f"{key} {value:.4f}" for key, value in rest.items()), flush=True)


if __name__ == "__main__":
    main()

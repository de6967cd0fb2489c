"""Train short variants, each without one ingredient, and write what they reach.

Run it as ``python benchmarks/pocket/ablate.py``; what stands in the table already is
not trained again, so it can be cut off at any time.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from develop import development, validation
from train import Recipe, Training, run
from validation_sides import SETS

from tllboost.files import write_text
from tllboost.vectorizers.onnx import OnnxVectorizer

VARIANTS: dict[str, tuple[str, ...]] = {
    "full": (),
    "without clutter": ("clutter",),
    "without geometry": ("geometry",),
    "without light and focus": ("light", "focus"),
    "without pairs of looks": ("looks",),
    "without larger views at the end": ("fine",),
    "without posters and faces": ("poster", "face"),
    "without solids, flames, clouds": ("solids", "flames", "clouds"),
}
"""What is left out, and by which of the ingredients that `train` knows."""

MEASURES = ("things", "looks", "photographs", "covers")
COLUMNS = (
    "variant",
    "seed",
    "steps",
    *MEASURES,
    *(f"{name}, validation" for name in SETS),
)


def measure(recipe: Recipe, cache: Path, data: Path) -> dict[str, str]:
    """Train one variant and return its figures."""
    training = Training(recipe, cache)
    left_out = "-".join(recipe.without) or "nothing"
    name = f"{recipe.n_steps}-{recipe.n_scenes}-{recipe.seed}-{left_out}"
    checkpoint = cache / "ablation" / f"{name}.checkpoint"
    if checkpoint.is_file():
        training.load(checkpoint)
    run(training, checkpoint, float("inf"))
    file = checkpoint.with_suffix(".onnx")
    training.export(file)
    checkpoint.unlink()
    vectorizer = OnnxVectorizer(file, fit="squash")
    figures = development(vectorizer, cache)
    if data.is_dir():
        for of, by_name in validation({"pocket": vectorizer}, data).items():
            figures[f"{of}, validation"] = by_name["pocket"]
    return {key: f"{value:.4f}" for key, value in figures.items()}


def main() -> None:
    """Train what is missing in the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/pocket/ablation.csv"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scenes", type=int, default=Recipe.n_scenes)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/pocket"))
    given = parser.parse_args()
    rows = _rows(given.out)
    for seed in range(given.seeds):
        for name, without in VARIANTS.items():
            recipe = Recipe(
                n_steps=given.steps, n_scenes=given.scenes, seed=seed, without=without
            )
            key = {"variant": name, "seed": str(seed), "steps": str(given.steps)}
            if any(key.items() <= row.items() for row in rows):
                continue
            rows.append(key | measure(recipe, given.cache, given.data))
            write_text(given.out, _table(rows))


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _table(rows: list[dict[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


if __name__ == "__main__":
    main()

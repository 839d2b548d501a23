"""The tables of docs/tables.md that `tables.py` and `table_models.py` have measured, as Markdown.

    python benchmarks/table_pages.py

prints them. An error is the standard error of a mean over seeds, which draw the rows and the holes
as well; there is none where there is one seed, or a way computes the same with each.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_name("tables.json")
Figures = Mapping[str, Mapping[str, float]]

_DETECTORS = {
    "vae": "`VAEDetector`",
    "isolation forest": "isolation forest",
    "k-nn": "5th neighbour",
    "ecod": "ECOD",
    "pyod pca": "PyOD PCA",
    "pyod vae": "PyOD VAE",
    "pyod autoencoder": "PyOD AutoEncoder",
}
_IMPUTERS = {
    "vae": "`VAEImputer`",
    "mean": "mean",
    "k-nn": "k-NN",
    "iterative": "iterative",
    "missforest": "forests",
}
_MAKERS = {
    "vae": "`VAE`",
    "vae, ex-post mixture": "`VAE`, prior fitted after training",
    "tvae": "TVAE of `ctgan`",
}


def _by(found: Figures, key: Callable[[list[str]], tuple[str, ...]]) -> dict[tuple[str, ...], list]:
    """Gather figures of all seeds by what the words of their keys say."""
    gathered: dict[tuple[str, ...], list] = {}
    for name, figure in found.items():
        gathered.setdefault(key(name.split("|")), []).append(figure)
    return gathered


def _mean(values: Iterable[float], digits: int = 3) -> str:
    """Return a mean, and its standard error if it has one."""
    x = np.array(list(values), float)
    text = f"{x.mean():.{digits}f}"
    if len(x) > 1 and x.std() > 0:
        text += f" ± {x.std(ddof=1) / np.sqrt(len(x)):.{digits}f}"
    return text


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(cells: list[str], right: int) -> list[str]:
    rule = ["---"] * (len(cells) - right) + ["---:"] * right
    return [_line(cells), _line(rule)]


def anomalies(found: Figures) -> str:
    """Return AUROC by table and detector, and their means over the tables that all have."""
    ways = [way for way in _DETECTORS if any(key.split("|")[1] == way for key in found)]
    gathered = _by(found, lambda words: (words[0], words[1]))
    tables = sorted({table for table, _ in gathered}, key=lambda name: name.split("_")[1].lower())
    lines = _head(["table", *(_DETECTORS[way] for way in ways)], len(ways))
    for table in tables:
        cells = [
            _mean(one["auroc"] for one in gathered[table, way]) if (table, way) in gathered else ""
            for way in ways
        ]
        lines.append(_line([table.split("_")[1], *cells]))
    whole = [table for table in tables if all((table, way) in gathered for way in ways)]
    # Ways that have been measured on every table come with two means.
    for some in [whole, *([tables] if len(whole) < len(tables) else [])]:
        means = [
            _over_tables(found, way, some, "auroc")
            if all((table, way) in gathered for table in some)
            else ""
            for way in ways
        ]
        lines.append(_line([f"**mean of {len(some)}**", *(f"**{x}**" if x else "" for x in means)]))
    for name, key in (("average precision", "average_precision"), ("seconds", "seconds")):
        digits = 1 if key == "seconds" else 3
        cells = [_over_tables(found, way, whole, key, digits) for way in ways]
        lines.append(_line([f"{name}, mean of {len(whole)}", *cells]))
    seeds = [
        str(len({key.split("|")[2] for key in found if key.split("|")[1] == way})) for way in ways
    ]
    lines.append(_line(["seeds", *seeds]))
    return "\n".join(lines)


def _over_tables(found: Figures, way: str, tables: list[str], key: str, digits: int = 3) -> str:
    """Return the mean over tables, with the error that seeds give it."""
    gathered = _by(found, lambda words: (words[0], words[1]))
    values = [np.array([one[key] for one in gathered[table, way]]) for table in tables]
    if not values:
        return ""
    mean = float(np.mean([x.mean() for x in values]))
    # Seeds of different tables are independent.
    variances = [x.var(ddof=1) / len(x) for x in values if len(x) > 1]
    text = f"{mean:.{digits}f}"
    if key == "seconds" or len(variances) < len(values) or not sum(variances):
        return text
    return f"{text} ± {np.sqrt(sum(variances)) / len(values):.{digits}f}"


def oracle(found: Figures) -> dict[str, float]:
    """Return means of AUROC over tables of the way that is best for each, known by its labels.

    Returns:
        "all": of all ways; "others": of all but this library's.
    """
    gathered = _by(found, lambda words: (words[0], words[1]))
    means = {key: float(np.mean([one["auroc"] for one in of])) for key, of in gathered.items()}
    tables = sorted({table for table, _ in means})

    def best(skip: str) -> float:
        return float(
            np.mean(
                [
                    max(v for (t, way), v in means.items() if t == table and way != skip)
                    for table in tables
                ]
            )
        )

    return {"all": best(""), "others": best("vae")}


def holes(found: Figures) -> str:
    """Return the squared error of filled values by table, share and imputer; the best in bold."""
    gathered = _by(found, lambda words: (words[0], words[1], words[2]))
    lines = _head(["table", "removed", *_IMPUTERS.values(), "90 % intervals hold", "seeds"], 7)
    for table, share in dict.fromkeys(key[:2] for key in gathered):
        of = {
            way: [one["squared_error"] for one in gathered[table, share, way]] for way in _IMPUTERS
        }
        best = min(of, key=lambda way: float(np.mean(of[way])))
        cells = [f"**{_mean(x)}**" if way == best else _mean(x) for way, x in of.items()]
        covered = _mean((100 * one["coverage"] for one in gathered[table, share, "vae"]), 1)
        lines.append(
            _line([table, f"{float(share):.0%}", *cells, f"{covered} %", str(len(of["vae"]))])
        )
    return "\n".join(lines)


def rows(found: Figures) -> str:
    """Return how like real rows made-up ones are, by table and maker."""
    gathered = _by(found, lambda words: (words[0], words[1]))
    columns = ("columns", "pairs", "told_apart", "foretold", "foretold_by_real")
    names = ["table", "made by", "columns", "pairs", "told apart", "foretold", "by real rows"]
    lines = _head([*names, "seconds", "seeds"], 7)
    for table in dict.fromkeys(key[0] for key in gathered):
        for way, name in _MAKERS.items():
            of = gathered.get((table, way))
            if of is None:
                continue
            cells = [_mean(one[column] for one in of) for column in columns]
            seconds = f"{np.mean([one['seconds'] for one in of]):.0f}"
            lines.append(_line([table, name, *cells, seconds, str(len(of))]))
    return "\n".join(lines)


def log_p(found: Figures) -> str:
    """Return the mean log p(x) of held-out rows, and its two errors."""
    gathered = _by(found, lambda words: (words[0],))
    lines = _head(["table", "columns", "mean log p(x)", "standard error over rows", "seeds"], 4)
    for (table,), of in gathered.items():
        within = np.mean([one["standard_error"] for one in of])
        mean = _mean((one["log_p"] for one in of), 2)
        lines.append(_line([table, f"{of[0]['columns']:.0f}", mean, f"{within:.2f}", str(len(of))]))
    return "\n".join(lines)


def tables(results: Mapping[str, Figures]) -> dict[str, str]:
    """Return the tables by their names."""
    parts = {"anomalies": anomalies, "holes": holes, "rows": rows, "log-p": log_p}
    return {name: make(results[name]) for name, make in parts.items() if results.get(name)}


def main() -> None:
    """Print the tables."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for name, text in tables(results).items():
        print(f"\n{name}\n\n{text}")
    print("\nthe best way for each table:", oracle(results["anomalies"]))
    print(results["machine"])


if __name__ == "__main__":
    main()

"""How well TF-IDF with a linear model tells the classes of a project's texts. A script, no test:

    python tests/support/tfidf.py PACKAGE

Settings are chosen by the validation split; it prints them, and the mean test accuracy of three seeds.
"""

import importlib
import sys
from itertools import product
from statistics import mean
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from sklearn.linear_model import SGDClassifier  # type: ignore[import-untyped]

PACKAGE = sys.argv[1]
data, settings = (importlib.import_module(f"{PACKAGE}.task.{name}") for name in ("data", "settings"))
ANALYZERS, LONGEST = ("char_wb", "char"), (3, 4, 5)
LOSSES, ALPHAS = ("hinge", "modified_huber"), (1e-6, 1e-5, 1e-4)


def texts(source: Any) -> list[str]:
    ends = source.ends
    return [source.content[ends[i] : ends[i + 1]].decode() for i in range(len(source))]


def main() -> None:
    sources = data.open_data(settings.DataConfig())
    parts = {name: texts(getattr(sources, name)) for name in ("train", "val", "test")}
    labels = {name: getattr(sources, name).labels.numpy() for name in parts}

    def score(vectors: dict[str, Any], part: str, loss: str, alpha: float, seed: int) -> float:
        model = SGDClassifier(loss=loss, alpha=alpha, random_state=seed)
        return float(model.fit(vectors["train"], labels["train"]).score(vectors[part], labels[part]))

    best: tuple[float, Any, Any] = (0.0, None, None)
    for analyzer, longest in product(ANALYZERS, LONGEST):
        vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=(1, longest), sublinear_tf=True)
        vectorizer.fit(parts["train"])
        vectors = {name: vectorizer.transform(part) for name, part in parts.items()}
        for loss, alpha in product(LOSSES, ALPHAS):
            reached = score(vectors, "val", loss, alpha, 0)
            if reached > best[0]:
                best = reached, (analyzer, longest, loss, alpha), vectors
    reached, (analyzer, longest, loss, alpha), vectors = best
    print(f"{analyzer}, 1 to {longest} characters, {loss}, alpha {alpha:g}: val/accuracy {reached:.4f}")
    print(f"test/accuracy {mean(score(vectors, 'test', loss, alpha, seed) for seed in range(3)):.4f}")


if __name__ == "__main__":
    main()

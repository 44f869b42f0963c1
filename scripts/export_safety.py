"""Write models/safety_data/english.json from alt-profanity-check's classifier; run once, outside Encore's environment.

    python -m venv throwaway && throwaway/bin/pip install alt-profanity-check==1.9.1
    throwaway/bin/python scripts/export_safety.py

The package keeps its model in pickles, which Encore never reads: what is shipped is numbers. Its five calibrated linear
SVMs differ in the third digit and become one, their mean.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from profanity_check.profanity_check import model, vectorizer

OUT = Path(__file__).resolve().parent.parent / "models" / "safety_data" / "english.json"


def main() -> None:
    """Write one line a term: its inverse document frequency and its weight."""
    folds = model.calibrated_classifiers_
    weights = np.mean([fold.estimator.coef_[0] for fold in folds], axis=0)
    numbers = {
        "intercept": float(np.mean([fold.estimator.intercept_[0] for fold in folds])),
        "slope": float(np.mean([fold.calibrators[0].a_ for fold in folds])),
        "offset": float(np.mean([fold.calibrators[0].b_ for fold in folds])),
    }
    terms = {
        term: (round(float(idf), 3), round(float(weight), 4))
        for term, idf, weight in zip(vectorizer.get_feature_names_out(), vectorizer.idf_, weights, strict=True)
    }
    lines = ",\n".join(f"{json.dumps(term, ensure_ascii=False)}: {json.dumps(pair)}" for term, pair in terms.items())
    OUT.write_text(f'{json.dumps(numbers)[:-1]}, "terms": {{\n{lines}\n}}}}\n', "utf-8")


if __name__ == "__main__":
    main()

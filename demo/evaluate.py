"""Evaluate a run from its URL alone: restore into an empty folder, look for tears, measure accuracy."""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import ackpt
from demo import model


def main() -> None:
    """Restore, evaluate, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    prefix = ackpt.restore(options.url, options.folder)
    if prefix is None:
        raise SystemExit(f"no checkpoint in {options.url}")
    estimator = model.make_estimator(options.folder, steps_between_saves=1)
    data, batches = model.evaluation_data()
    figures = estimator.evaluate(data, steps=batches, checkpoint_path=prefix)
    print(
        json.dumps(
            {
                "step": int(figures["global_step"]),
                "accuracy": float(figures["accuracy"]),
                "torn": model.torn_variables(prefix),
            }
        )
    )


if __name__ == "__main__":
    main()

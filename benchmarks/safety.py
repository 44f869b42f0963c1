"""How well the safety of members and moderators holds: classifier, lists, latency, injections.

    python -m benchmarks.safety --json [--quick] [--data DIR] [--part NAME] [--candidate NAME] [--model FOLDER_OR_REPO]

Each part of PARTS measures its figures, says which hold a bar, and is described where it is written:

classifier  benchmarks/safety_classifier.py: hate, threats and offence on HateCheck, COLD and Topical-Chat
lists       benchmarks/safety_text.py: entries of lists in disguise, and false alarms
latency     benchmarks/safety_latency.py: what the whole of moderation adds to a message and its answer
injection   benchmarks/safety_injection.py: 156 attempts on the real bot, with the worst model and the embedded one

The object has all parts, and `holds`: true where every bar does, false where one does not, null where a quick run is
too small to say so. The whole takes some ten minutes on two cores, --quick two or three.

--candidate measures one of benchmarks/safety_candidates.py instead (best threshold under 1 % of Topical-Chat beside its
own), --model a transformers classifier through the process that serves it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import safety_text
from benchmarks.safety_candidates import CANDIDATES
from benchmarks.safety_classifier import candidate, classifier
from benchmarks.safety_injection import all_hold, injection
from benchmarks.safety_latency import latency

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
Part = Callable[[argparse.Namespace], dict[str, Any]]


def lists(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the lists and the other rules on text."""
    return safety_text.measure(arguments.data)


PARTS: dict[str, Part] = {"classifier": classifier, "lists": lists, "latency": latency, "injection": injection}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with hatecheck.csv, cold-zh-test.csv, ...")
    parser.add_argument("--part", choices=[*PARTS], action="append", help="only this part (may be given several times)")
    parser.add_argument("--quick", action="store_true", help="fewer attempts and exchanges")
    parser.add_argument("--candidate", choices=sorted(CANDIDATES), help="a candidate to measure instead")
    parser.add_argument("--model", help="a transformers classifier's folder or repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.candidate:
        figures = candidate(arguments.candidate, arguments.data)
    else:
        parts = {}
        for name in arguments.part or PARTS:
            print(f"{name} ...", file=sys.stderr)
            parts[name] = PARTS[name](arguments)
        figures = {**parts, "holds": all_hold(part["holds"] for part in parts.values())}
    print(json.dumps(figures, ensure_ascii=False, indent=None if arguments.json else 2))
    sys.exit(1 if figures.get("holds") is False else 0)


if __name__ == "__main__":
    main()

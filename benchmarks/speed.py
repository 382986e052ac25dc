"""Speed and memory of GeneMamba against its rivals, all in one run on one machine.

    python benchmarks/speed.py --device cuda --json speed_cuda.json --plot speed_cuda.png
    python benchmarks/speed.py --device cpu --json speed_cpu.json --plot speed_cpu.png

On a GPU: ``forward``, ``training`` (with gradients) and ``step`` (with the masked-gene loss and AdamW) of an encoder of 24
layers x 512 in bfloat16, 32,768 tokens a batch; ``cold``, the first batch without compiled kernels; ``cells``, from AnnData
to embeddings.

On a CPU, in float32: ``block``, one layer; ``scaling``, time and memory of one cell against its length; ``preset``, the small
preset from AnnData on; ``tokenizer``.

Results are written after each part, so that a run that is cut short keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from _speed import block, cells, cold, encoder, preset, scaling, tokens
from _speed.bars import bars
from _speed.figure import plot
from _speed.results import Report, Result, device_name, versions

DATA = Path(os.environ.get("SCGENEMAMBA_DATA", Path(__file__).parents[2] / "shared" / "data"))

Part = Callable[[argparse.Namespace, Report], None]


def main() -> None:
    """Run the parts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(PARTS), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="default: all of the device")
    parser.add_argument("--lengths", nargs="+", type=int, help="tokens per cell, where a part has several")
    parser.add_argument("--cells", type=int, default=50_000, help="cells of the part `cells`")
    parser.add_argument("--data", type=Path, default=DATA / cells.DATA, help="counts of the part `cells`")
    parser.add_argument("--json", type=Path, default=Path("speed.json"))
    parser.add_argument("--plot", type=Path, help="figure to write, .png")
    arguments = parser.parse_args()
    parts = PARTS[arguments.device]
    chosen = arguments.parts or list(parts)
    if unknown := sorted(set(chosen) - set(parts)):
        parser.error(f"unknown parts {unknown} of {arguments.device}; choose any of {list(parts)}")
    results: list[Result] = []

    def report(result: Result) -> None:
        results.append(result)
        print(result, flush=True)

    for name in chosen:
        started = time.perf_counter()
        parts[name](arguments, report)
        print(f"({name} took {time.perf_counter() - started:.0f} s)", flush=True)
        write(results, arguments)
    for number, bar in bars(results).items():
        print(f"{number}: {bar['what']}: {bar['value']:.4g} ({'met' if bar['met'] else 'missed'}, {bar['target']:g})")


def write(results: list[Result], arguments: argparse.Namespace) -> None:
    """Write what there is so far."""
    table = {
        "command": " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "device": device_name(torch.device(arguments.device)),
        "versions": versions(),
        "results": [asdict(result) for result in results],
        "bars": bars(results),
    }
    arguments.json.write_text(json.dumps(table, indent=2))
    if arguments.plot:
        plot(results, arguments.plot)


def run_encoder(part: str, arguments: argparse.Namespace, report: Report) -> None:
    """Encoder of the paper's size."""
    lengths = arguments.lengths or encoder.LENGTHS
    encoder.measure(part, torch.device(arguments.device), report, lengths=lengths)


def run_cold(arguments: argparse.Namespace, report: Report) -> None:
    """First batch."""
    cold.measure(arguments.device, report)


def run_cells(arguments: argparse.Namespace, report: Report) -> None:
    """From AnnData to embeddings."""
    cells.measure(arguments.data, arguments.cells, torch.device(arguments.device), report)


def run_block(arguments: argparse.Namespace, report: Report) -> None:
    """One layer."""
    block.measure(report, lengths=arguments.lengths or block.LENGTHS)


def run_scaling(arguments: argparse.Namespace, report: Report) -> None:
    """Time and memory against length."""
    scaling.measure(report, lengths=arguments.lengths or scaling.LENGTHS)


def run_preset(arguments: argparse.Namespace, report: Report) -> None:
    """Small preset."""
    preset.measure(report)


def run_tokenizer(arguments: argparse.Namespace, report: Report) -> None:
    """Tokenizer."""
    tokens.measure(report)


PARTS: dict[str, dict[str, Part]] = {
    "cuda": {**{part: partial(run_encoder, part) for part in encoder.TASKS}, "cold": run_cold, "cells": run_cells},
    "cpu": {"block": run_block, "scaling": run_scaling, "preset": run_preset, "tokenizer": run_tokenizer},
}

if __name__ == "__main__":
    main()

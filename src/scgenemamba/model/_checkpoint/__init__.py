"""Checkpoints as safetensors and JSON: ours, and the published GeneMamba's. No pickle, no code."""

from ._contents import Checkpoint, LoadReport, Preprocessing
from ._fetch import fetch
from ._files import WeightFiles, load_tensors
from ._findings import refuse_changes, worries
from ._native import TIED, is_native, read_native, write_native
from ._published import read_published, write_published
from ._saved import KEPT, SETUP_DEFAULTS, check_arguments

__all__ = [
    "KEPT",
    "SETUP_DEFAULTS",
    "TIED",
    "Checkpoint",
    "LoadReport",
    "Preprocessing",
    "WeightFiles",
    "check_arguments",
    "fetch",
    "is_native",
    "load_tensors",
    "read_native",
    "read_published",
    "refuse_changes",
    "worries",
    "write_native",
    "write_published",
]

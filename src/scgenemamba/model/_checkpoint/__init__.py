"""Checkpoints as safetensors and JSON: ours, and the published GeneMamba's. No pickle, no code."""

from ._contents import Checkpoint, LoadReport, Preprocessing
from ._files import WeightFiles, fetch
from ._native import is_native, read_native, write_native
from ._published import read_published, write_published

__all__ = [
    "Checkpoint",
    "LoadReport",
    "Preprocessing",
    "WeightFiles",
    "fetch",
    "is_native",
    "read_native",
    "read_published",
    "write_native",
    "write_published",
]

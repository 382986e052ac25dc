"""Cells that are streamed from files."""

from ._cells import CellStream, Source
from ._datamodule import CellStreamModule
from ._files import CellFile
from ._order import Blocks, CellOrder, Mixed
from ._survey import Survey, survey
from ._survey_file import kept_survey, load_survey, save_survey
from ._zarr import datasets_of, rust_codecs

__all__ = [
    "Blocks",
    "CellFile",
    "CellOrder",
    "CellStream",
    "CellStreamModule",
    "Mixed",
    "Source",
    "Survey",
    "datasets_of",
    "kept_survey",
    "load_survey",
    "rust_codecs",
    "save_survey",
    "survey",
]

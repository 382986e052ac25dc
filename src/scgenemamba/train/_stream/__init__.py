"""Cells that are streamed from files."""

from ._cells import CellStream, Source
from ._files import CellFile
from ._order import Blocks, CellOrder

__all__ = ["Blocks", "CellFile", "CellOrder", "CellStream", "Source"]

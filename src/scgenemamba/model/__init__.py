"""GeneMamba as a scvi-tools model."""

from ._model import GeneMambaModel
from ._module import GeneMambaModule
from ._presets import PRESETS
from ._scale import linear_expression

__all__ = ["PRESETS", "GeneMambaModel", "GeneMambaModule", "linear_expression"]

"""GeneMamba as a scvi-tools model."""

from ._constants import LANGUAGE
from ._memory import available_bytes
from ._model import GeneMambaModel
from ._module import GeneMambaModule
from ._presets import PRESETS
from ._scale import linear_expression
from ._training import default_epochs

__all__ = [
    "LANGUAGE",
    "PRESETS",
    "GeneMambaModel",
    "GeneMambaModule",
    "available_bytes",
    "default_epochs",
    "linear_expression",
]

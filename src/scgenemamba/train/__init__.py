"""Training: objectives, each with its own heads, and the Lightning plan that sums them."""

from ._cell_type import CellType
from ._counts import CountsGivenBatch
from ._masked_genes import MaskedGenes
from ._objective import Objective
from ._plan import GeneMambaTrainingPlan
from ._progress import TrainingDuration, announce_duration
from ._random import CellRandom

__all__ = [
    "CellRandom",
    "CellType",
    "CountsGivenBatch",
    "GeneMambaTrainingPlan",
    "MaskedGenes",
    "Objective",
    "TrainingDuration",
    "announce_duration",
]

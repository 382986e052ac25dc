"""Training: objectives, each with its own heads, and the Lightning plan that sums them."""

from ._alignment import BatchAlignment
from ._annotation import TARGET_SUM, Annotator, CellFeatures, choose_labelled, fit_annotator, unlabelled_batches
from ._cell_type import CellType
from ._counts import CountsGivenBatch
from ._masked_genes import MaskedGenes
from ._next_token import LeakyNextToken, NextToken, PreviousToken
from ._objective import Objective
from ._pathway import PathwayContrast
from ._plan import GeneMambaTrainingPlan
from ._prior import MixturePrior
from ._progress import TrainingDuration, announce_duration
from ._random import CellRandom
from ._read_ahead import read_ahead
from ._stream import Blocks, CellFile, CellOrder, CellStream, CellStreamModule, Mixed, Source, Survey, survey

__all__ = [
    "TARGET_SUM",
    "Annotator",
    "BatchAlignment",
    "Blocks",
    "CellFeatures",
    "CellFile",
    "CellOrder",
    "CellRandom",
    "CellStream",
    "CellStreamModule",
    "CellType",
    "CountsGivenBatch",
    "GeneMambaTrainingPlan",
    "LeakyNextToken",
    "MaskedGenes",
    "Mixed",
    "MixturePrior",
    "NextToken",
    "Objective",
    "PathwayContrast",
    "PreviousToken",
    "Source",
    "Survey",
    "TrainingDuration",
    "announce_duration",
    "choose_labelled",
    "fit_annotator",
    "read_ahead",
    "survey",
    "unlabelled_batches",
]

"""Training: objectives, each with its own heads, and the Lightning plan that sums them."""

from ._alignment import BatchAlignment
from ._annotation import (
    TARGET_SUM,
    Annotator,
    CellFeatures,
    choose_labelled,
    fit_across_studies,
    fit_annotator,
    unlabelled_batches,
)
from ._cell_type import CellType
from ._checkpoints import AtomicCheckpointIO, LatestCheckpoints, newest_checkpoint
from ._counts import CountsGivenBatch, is_unused
from ._gene_dropout import drop_genes
from ._masked_genes import MaskedGenes
from ._monitor import TrainingMonitor
from ._next_token import LeakyNextToken, NextToken, PreviousToken
from ._objective import Objective
from ._pathway import PathwayContrast
from ._plan import VALIDATION_EPOCH, GeneMambaTrainingPlan
from ._prior import MixturePrior
from ._progress import TrainingDuration, announce_duration, in_words
from ._random import CellRandom
from ._rank_baselines import RankBaselines
from ._read_ahead import read_ahead
from ._stop_at_non_finite import StopAtNonFinite
from ._stream import (
    Blocks,
    CellFile,
    CellOrder,
    CellStream,
    CellStreamModule,
    Mixed,
    Source,
    Survey,
    datasets_of,
    kept_survey,
    load_survey,
    rust_codecs,
    save_survey,
    survey,
)

__all__ = [
    "TARGET_SUM",
    "VALIDATION_EPOCH",
    "Annotator",
    "AtomicCheckpointIO",
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
    "LatestCheckpoints",
    "LeakyNextToken",
    "MaskedGenes",
    "Mixed",
    "MixturePrior",
    "NextToken",
    "Objective",
    "PathwayContrast",
    "PreviousToken",
    "RankBaselines",
    "Source",
    "StopAtNonFinite",
    "Survey",
    "TrainingDuration",
    "TrainingMonitor",
    "announce_duration",
    "choose_labelled",
    "datasets_of",
    "drop_genes",
    "fit_across_studies",
    "fit_annotator",
    "is_unused",
    "in_words",
    "kept_survey",
    "load_survey",
    "newest_checkpoint",
    "read_ahead",
    "rust_codecs",
    "save_survey",
    "survey",
    "unlabelled_batches",
]

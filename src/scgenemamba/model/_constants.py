"""Names of what setup stores in the registry, and limits of its single pass over the data."""

from __future__ import annotations

from typing import Final

X_KEY: Final = "X"
BATCH_KEY: Final = "batch"
LABELS_KEY: Final = "labels"
SIZE_FACTOR_KEY: Final = "size_factor"
CATEGORICAL_KEY: Final = "extra_categorical_covs"
CONTINUOUS_KEY: Final = "extra_continuous_covs"

#: Objectives that have a head over the vocabulary.
LANGUAGE: Final = ("masked_genes", "next_token", "previous_token", "leaky_next_token")

GENES: Final = "genes"
MEDIANS: Final = "medians"
VARIABLE_GENES: Final = "variable_genes"
SCALE: Final = "scale"
RANK_MODE: Final = "rank_mode"
FACTORS_SOURCE: Final = "factors_source"
MIN_COUNTS_SHARE: Final = "min_counts_share"
GENE_REPORT: Final = "gene_report"

# Cells that factors and variable genes are estimated from: enough for both, and bounded in memory.
MAX_CELLS_FOR_ESTIMATES: Final = 20_000
CELLS_PER_CHUNK: Final = 4_096
MAX_VARIABLE_GENES: Final = 4_000
#: Most variable genes whose expression the annotation reads.
ANNOTATION_GENES: Final = 2_000

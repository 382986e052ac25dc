"""How much of a data set the vocabulary covers, for people to read and for checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._gene_map import AMBIGUOUS, NOT_A_GENE, RULES, GeneMap
from ._species import UNKNOWN_SPECIES, guess_species
from ._vocabulary import Vocabulary

_N_SHOWN = 5
# cells of data with less of the vocabulary get few tokens
_FEW_GENES = 0.5
# data with less still are taken for a panel
_PANEL_SHARE = 0.1


@dataclass(frozen=True)
class GeneReport:
    """Coverage of a data set; made with :meth:`GeneReport.of`.

    Attributes
    ----------
    n_features, n_mapped
        Features of the data, and those with a token.
    n_vocabulary_genes
        Different genes of the vocabulary with a feature.
    by_rule, counts_by_rule
        Number of features, and share of all counts, of each rule that occurs.
    ambiguous
        Names for which several genes of the vocabulary are possible.
    dropped
        Names of genes without a token (ambiguous ones too), largest counts first.
    duplicates
        Genes of the vocabulary that several features stand for.
    share_of_genes, share_of_counts
        Share of features with a token, and of their counts; features that are no genes are left out.
    share_of_vocabulary
        Share of the vocabulary with a feature.
    species, vocabulary_species
        Guesses, see :func:`guess_species`.
    """

    n_features: int
    n_mapped: int
    n_vocabulary_genes: int
    by_rule: dict[str, int]
    counts_by_rule: dict[str, float]
    ambiguous: tuple[str, ...]
    dropped: tuple[str, ...]
    duplicates: tuple[str, ...]
    share_of_genes: float
    share_of_counts: float
    share_of_vocabulary: float
    species: str
    vocabulary_species: str

    @classmethod
    def of(cls, gene_map: GeneMap, vocabulary: Vocabulary, counts: npt.ArrayLike) -> GeneReport:
        """Report on a mapping.

        Parameters
        ----------
        gene_map
            From :func:`map_genes` with this vocabulary.
        vocabulary
            Genes of the model.
        counts
            Sum of each feature over the cells, on the linear scale, shape ``(n_features,)``. Where all are zero,
            the share of genes stands in for the share of counts.

        Raises
        ------
        ValueError
            If there is not one finite, not negative sum per feature.
        """
        counts = np.asarray(counts, dtype=np.float64)
        if counts.shape != (len(gene_map),) or not np.all(np.isfinite(counts) & (counts >= 0)):
            msg = f"counts must be {len(gene_map)} finite, not negative sums, one per feature."
            raise ValueError(msg)
        names, rules = gene_map.names, gene_map.rules
        genes, mapped = rules != NOT_A_GENE, gene_map.token_ids >= 0
        tokens, repeats = np.unique(gene_map.token_ids[mapped], return_counts=True)
        lost = np.flatnonzero(genes & ~mapped)
        lost = lost[np.argsort(-counts[lost], kind="stable")]
        present = [rule for rule in RULES if rule in set(rules)]
        share_of_genes = _share(mapped.sum(), genes.sum())
        return cls(
            n_features=len(gene_map),
            n_mapped=int(mapped.sum()),
            n_vocabulary_genes=len(tokens),
            by_rule={rule: int((rules == rule).sum()) for rule in present},
            counts_by_rule={rule: _share(counts[rules == rule].sum(), counts.sum()) for rule in present},
            ambiguous=tuple(names[rules == AMBIGUOUS]),
            dropped=tuple(names[lost]),
            duplicates=tuple(vocabulary.genes[tokens[repeats > 1] - vocabulary.FIRST_GENE]),
            share_of_genes=share_of_genes,
            share_of_counts=_share(counts[mapped].sum(), counts[genes].sum(), otherwise=share_of_genes),
            share_of_vocabulary=_share(len(tokens), len(vocabulary)),
            species=guess_species(names[genes]),
            vocabulary_species=guess_species(vocabulary.genes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Report as builtins, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GeneReport:
        """Report from :meth:`to_dict`, also after a way through JSON."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fields)

    def __str__(self) -> str:
        n_genes = self.n_features - self.by_rule.get(NOT_A_GENE, 0)
        by_rule = ", ".join(f"{rule} {n:,} ({self.counts_by_rule[rule]:.1%})" for rule, n in self.by_rule.items())
        lines = [
            f"{self.n_mapped:,} of {n_genes:,} genes are in the vocabulary, with {self.share_of_counts:.1%} of the counts;",
            f"they are {self.n_vocabulary_genes:,} genes or {self.share_of_vocabulary:.1%} of the vocabulary.",
            f"Species: data {self.species}, vocabulary {self.vocabulary_species}.",
            f"Features (share of counts) by rule: {by_rule or 'none'}.",
        ]
        lists = {"Not used": self.dropped, "Ambiguous": self.ambiguous, "Several features each": self.duplicates}
        lines += [f"{title} ({len(names):,}): {_first(names)}." for title, names in lists.items() if names]
        return "\n".join(lines)


def check_coverage(report: GeneReport, *, stop_below: float, warn_below: float = 0.8) -> str | None:
    """Refuse data that the vocabulary hardly covers.

    Parameters
    ----------
    report
        Coverage of the data.
    stop_below
        Smallest share of counts that is accepted; 0 accepts everything.
    warn_below
        Share of counts under which there is a warning.

    Returns
    -------
    Text of a warning, or ``None``. Data with under half of the vocabulary are mentioned too, and panels (under a tenth).

    Raises
    ------
    ValueError
        If genes of the vocabulary make up less than ``stop_below`` of the counts, or no gene is known.
    """
    covered = f"{report.share_of_counts:.1%} of the counts belong to genes of the vocabulary"
    if report.share_of_counts < stop_below or not report.n_mapped:
        way_out = (
            "Name the column of .var that holds identifiers of the vocabulary's kind with gene_key=, "
            "or accept the data with a lower limit."
        )
        msg = f"Only {covered}, the limit is {stop_below:.0%}. {_species_clash(report)}{way_out}\n{report}"
        raise ValueError(msg)
    warnings = []
    if report.share_of_counts < warn_below:
        warnings.append(f"Only {covered}. {_species_clash(report)}".strip())
    if report.share_of_vocabulary < _FEW_GENES:
        few = "a panel of " if report.share_of_vocabulary < _PANEL_SHARE else "only "
        warnings.append(
            f"The data have {few}{report.n_vocabulary_genes:,} genes, {report.share_of_vocabulary:.1%} of the vocabulary: "
            "embeddings and predictions from so few are less reliable."
        )
    return "\n".join([*warnings, str(report)]) if warnings else None


def _species_clash(report: GeneReport) -> str:
    if UNKNOWN_SPECIES in (report.species, report.vocabulary_species) or report.species == report.vocabulary_species:
        return ""
    return (
        f"The data look like {report.species}; the vocabulary is {report.vocabulary_species}. "
        "Genes of another species must be replaced by their orthologs first. "
    )


def _share(part: float, whole: float, *, otherwise: float = 0.0) -> float:
    return float(part / whole) if whole > 0 else otherwise


def _first(names: Iterable[str]) -> str:
    """The first few names, and how many follow."""
    names = list(names)
    more = len(names) - _N_SHOWN
    return ", ".join(names[:_N_SHOWN]) + (f" and {more:,} more" if more > 0 else "")

"""Which token each feature of a data set stands for, and by which rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ._gene_table import GeneTable, gene_table
from ._genes import canonical_identifiers
from ._vocabulary import Vocabulary

IDENTIFIER = "identifier"
VERSION_REMOVED = "version removed"
RETIRED_ID = "retired id"
SYMBOL = "symbol"
PREVIOUS_SYMBOL = "previous symbol"
ALIAS = "alias"
ENSEMBL_ID = "Ensembl id"
AMBIGUOUS = "ambiguous"
UNKNOWN = "unknown"
NOT_A_GENE = "not a gene"

RULES = (
    IDENTIFIER,
    VERSION_REMOVED,
    RETIRED_ID,
    SYMBOL,
    PREVIOUS_SYMBOL,
    ALIAS,
    ENSEMBL_ID,
    AMBIGUOUS,
    UNKNOWN,
    NOT_A_GENE,
)
"""All rules, from the strongest to the weakest; the last three give no token."""

# a vocabulary is human if this share of its genes are human ids or symbols
_HUMAN_SHARE = 0.5


@dataclass(frozen=True)
class GeneMap:
    """Token of each feature.

    Attributes
    ----------
    names
        Names as given, object array of ``str``, shape ``(n_features,)``; ``""`` where missing.
    token_ids
        int32, shape ``(n_features,)``; -1 where the feature is not used. Features with one token are to be summed.
    rules
        Rule that decided, object array of ``str``, shape ``(n_features,)``, one of ``RULES``.
    """

    names: npt.NDArray[np.object_]
    token_ids: npt.NDArray[np.int32]
    rules: npt.NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.names)


def map_genes(names: Iterable[object], vocabulary: Vocabulary) -> GeneMap:
    """Find the token of each feature by the identifier as it stands, else by what is known of human genes.

    The rules, in order of precedence:

    - ``identifier``: the name is in the vocabulary.
    - ``version removed``: it is an Ensembl id, and in the vocabulary without its version.
    - ``retired id``: it is an Ensembl id that was replaced, and the vocabulary holds both: the gene is read as the current
      one, as its symbol would be. Where the data have both, each keeps its own.
    - ``symbol``: it is the current symbol of a gene of the vocabulary. The id in HGNC comes before ids that
      other Ensembl releases give the same symbol.
    - ``previous symbol``: it was the symbol of exactly one gene of the vocabulary, and is the current symbol of
      no other. A name in a gene set of Ensembl counts before the older ones of HGNC.
    - ``alias``: likewise. Aliases are unreliable, so one whose gene is there under a name of its own is left
      out as ambiguous instead of being added to it.
    - ``Ensembl id``: the vocabulary holds the gene under a symbol, or under another id with the same symbol
      (retired or newer); left out like an alias where the gene is there by a stronger rule.
    - ``ambiguous``: several genes of the vocabulary are possible; none is used.
    - ``unknown``, and ``not a gene`` for empty or missing names.

    Upper and lower case differ, so that mouse genes never become human ones. The table of human genes is
    read only for a human vocabulary, and only if some name is not found directly, or is an Ensembl id.

    Parameters
    ----------
    names
        Symbols or Ensembl ids of the features, also mixed; ``""`` or missing for features that are no genes.
    vocabulary
        Genes under any identifiers, of any species.

    Examples
    --------
    >>> vocabulary = Vocabulary(["ENSG00000198851", "ENSG00000177455"])
    >>> map_genes(["CD3E", "ENSG00000177455.16", "Cd3e"], vocabulary).rules
    array(['symbol', 'version removed', 'unknown'], dtype=object)
    """
    given = tuple("" if name is None or name != name else str(name).strip() for name in names)
    # every loader of a data set asks for the same map
    return _map_genes(given, tuple(vocabulary.genes))


@lru_cache(maxsize=4)
def _map_genes(names: tuple[str, ...], genes: tuple[str, ...]) -> GeneMap:
    given, vocabulary = np.array(names, dtype=object), Vocabulary(genes)
    tokens = {gene: token for token, gene in enumerate(vocabulary.genes, start=vocabulary.FIRST_GENE)}
    token_ids = np.full(len(given), -1, dtype=np.int32)
    rules = np.full(len(given), UNKNOWN, dtype=object)
    pending = []
    for i, (name, canonical) in enumerate(zip(given, canonical_identifiers(given), strict=True)):
        if not name:
            rules[i] = NOT_A_GENE
        elif name in tokens:
            token_ids[i], rules[i] = tokens[name], IDENTIFIER
        elif canonical in tokens:
            token_ids[i], rules[i] = tokens[canonical], VERSION_REMOVED
        else:
            pending.append((i, canonical))
    ids = [i for i, name in enumerate(given) if token_ids[i] >= 0 and _is_human_id(name)]
    if (pending or ids) and _is_human(vocabulary):
        _renew_retired_ids(ids, vocabulary, tokens, token_ids, rules)
        finder = _Finder(gene_table(), tokens)
        for i, name in pending:
            token_ids[i], rules[i] = finder.find(name)
        _drop_guesses_of_present_genes(token_ids, rules)
    return GeneMap(given, token_ids, rules)


def _is_human(vocabulary: Vocabulary) -> bool:
    """Whether most genes are human ids or symbols; without reading the table where the ids tell."""
    rest = [gene for gene in vocabulary.genes if not _is_human_id(gene)]
    wanted = _HUMAN_SHARE * len(vocabulary)
    n_ids = len(vocabulary) - len(rest)
    if n_ids >= wanted:
        return n_ids > 0
    table = gene_table()
    return n_ids + sum(map(table.knows, rest)) >= wanted


def _is_human_id(name: str) -> bool:
    return name.startswith(("ENSG0", "ENSGR"))


def _renew_retired_ids(
    features: list[int],
    vocabulary: Vocabulary,
    tokens: dict[str, int],
    token_ids: npt.NDArray[np.int32],
    rules: npt.NDArray[np.object_],
) -> None:
    """Read replaced ids as the current ones of their symbols, unless the data have those as well."""
    table, present = gene_table(), set(token_ids.tolist())
    for i in features:
        gene_id = vocabulary.genes[token_ids[i] - vocabulary.FIRST_GENE]
        if gene_id in table.approved:
            continue
        current = [c for c in table.by_symbol[table.symbols.get(gene_id, "")] if c in table.approved and c in tokens]
        if len(current) == 1 and tokens[current[0]] not in present:
            token_ids[i], rules[i] = tokens[current[0]], RETIRED_ID


def _drop_guesses_of_present_genes(token_ids: npt.NDArray[np.int32], rules: npt.NDArray[np.object_]) -> None:
    guess = np.isin(rules.astype(str), (ALIAS, ENSEMBL_ID))
    clash = guess & np.isin(token_ids, token_ids[~guess & (token_ids >= 0)])
    token_ids[clash] = -1
    rules[clash] = AMBIGUOUS


class _Finder:
    """Find names that are not in the vocabulary as they stand."""

    def __init__(self, table: GeneTable, tokens: dict[str, int]) -> None:
        self.table = table
        self._tokens = self._tokens_of_ids(tokens)

    def _tokens_of_ids(self, tokens: dict[str, int]) -> dict[str, set[int]]:
        """Tokens of each Ensembl id: its own, else that of its symbol, else those of its former names."""
        own: dict[str, set[int]] = {}
        by_symbol: dict[str, set[int]] = {}
        by_former: dict[str, set[int]] = {}
        for gene, token in tokens.items():
            if _is_human_id(gene):
                own[gene] = {token}
            elif ids := self.table.by_symbol[gene]:
                for gene_id in self._approved_first(ids):
                    by_symbol.setdefault(gene_id, set()).add(token)
            else:
                ids = self.table.by_former[gene] or self.table.by_previous[gene]
                # a name of several genes says nothing about any of them
                if len(first := self._approved_first(ids)) == 1:
                    by_former.setdefault(first[0], set()).add(token)
        return {**by_former, **by_symbol, **own}

    def _approved_first(self, ids: Iterable[str]) -> list[str]:
        """The approved ones, or all if there are none."""
        ids = list(ids)
        return [gene_id for gene_id in ids if gene_id in self.table.approved] or ids

    def find(self, name: str) -> tuple[int, str]:
        """Token id and rule; -1 where the gene is ambiguous or unknown."""
        table = self.table
        if name in table.by_symbol:
            # never an old name of another gene
            return self._choose(table.by_symbol[name], SYMBOL) or (-1, UNKNOWN)
        return (
            self._choose(table.by_former[name], PREVIOUS_SYMBOL)
            or self._choose(table.by_previous[name], PREVIOUS_SYMBOL)
            or self._choose(table.by_alias[name], ALIAS)
            or self._find_id(name)
            or (-1, UNKNOWN)
        )

    def _choose(self, ids: Iterable[str], rule: str) -> tuple[int, str] | None:
        """The only gene of the vocabulary among the ids, ``None`` where there is none."""
        present = self._approved_first(gene_id for gene_id in ids if gene_id in self._tokens)
        tokens = set().union(*(self._tokens[gene_id] for gene_id in present))
        if not tokens:
            return None
        return (tokens.pop(), rule) if len(tokens) == 1 else (-1, AMBIGUOUS)

    def _find_id(self, name: str) -> tuple[int, str] | None:
        """The gene of an id that is not in the vocabulary itself."""
        if not _is_human_id(name):
            return None
        if name.startswith("ENSGR"):
            # the copy on Y of a pseudo-autosomal gene, whose copy on X has the plain id
            name = "ENSG0" + name.removeprefix("ENSGR")
        symbol = self.table.symbols.get(name, "")
        same_symbol = self.table.by_symbol[symbol] or self.table.by_former[symbol]
        return self._choose((name,), ENSEMBL_ID) or self._choose(same_symbol, ENSEMBL_ID)

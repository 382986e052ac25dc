"""Names of human genes, read from the table that comes with the package."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_APPROVED = "HGNC"
# newest Ensembl gene set of the table; ids of older ones are retired
_NEWEST = "100"
_SEPARATOR = "|"


class NameIndex:
    """Ensembl ids of each name.

    Ids of one name are kept as one string: containers by the hundred thousand would keep the garbage collector busy.
    """

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """Ids, in the order in which they were added; empty for an unknown name."""
        ids = self._ids.get(name)
        return tuple(ids.split(_SEPARATOR)) if ids else ()

    def add(self, name: str, gene_id: str) -> None:
        """Add an id to a name."""
        ids = self._ids.get(name)
        self._ids[name] = f"{ids}{_SEPARATOR}{gene_id}" if ids else gene_id


@dataclass(frozen=True)
class GeneTable:
    """Lookups between human Ensembl ids and gene names.

    Attributes
    ----------
    symbols
        Ensembl id to its newest symbol; ``""`` where other genes had the same name.
    approved
        Ids whose symbol is approved by HGNC.
    by_symbol
        Current symbol to ids. Where a retired id had the same symbol it comes along, after the others.
    by_former
        Name in an Ensembl gene set since 2013, replaced or of a retired id, to ids.
    by_previous
        Previous symbol of HGNC, of any age, to ids.
    by_alias
        Alias symbol of HGNC to ids.
    """

    symbols: dict[str, str]
    approved: frozenset[str]
    by_symbol: NameIndex
    by_former: NameIndex
    by_previous: NameIndex
    by_alias: NameIndex

    def knows(self, name: str) -> bool:
        """Whether the name is or was the symbol of a gene."""
        return name in self.by_symbol or name in self.by_former or name in self.by_previous


@cache
def gene_table() -> GeneTable:
    """The table; read at the first call, which takes some tenths of a second."""
    packed = files(__package__).joinpath("data", "human_genes.tsv.gz").read_bytes()
    lines = (line for line in gzip.decompress(packed).decode().splitlines() if not line.startswith("#"))
    next(lines)  # names of the columns
    return _lookups(lines)


def _lookups(lines: Iterable[str]) -> GeneTable:
    """Lookups from lines of id, source, symbol, former names, previous symbols and aliases."""
    symbols: dict[str, str] = {}
    sources: dict[str, str] = {}
    by_symbol, by_former, by_previous, by_alias = (NameIndex() for _ in range(4))
    for line in lines:
        gene_id, source, symbol, *others = line.split("\t")
        symbols[gene_id], sources[gene_id] = symbol, source
        for names, index in zip(others, (by_former, by_previous, by_alias), strict=True):
            if names:
                for name in names.split(_SEPARATOR):
                    index.add(name, gene_id)
    current = [gene_id for gene_id, source in sources.items() if source in (_APPROVED, _NEWEST)]
    approved = frozenset(gene_id for gene_id in current if sources[gene_id] == _APPROVED)
    for gene_id in sorted(current, key=lambda gene_id: gene_id not in approved):
        if symbols[gene_id]:
            by_symbol.add(symbols[gene_id], gene_id)
    for gene_id in sorted(sources.keys() - set(current)):
        if symbol := symbols[gene_id]:
            (by_symbol if symbol in by_symbol else by_former).add(symbol, gene_id)
    return GeneTable(symbols, approved, by_symbol, by_former, by_previous, by_alias)

"""Gene sets from files."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

GeneSets = Mapping[str, Iterable[str]]


def read_gene_sets(source: str | Path | GeneSets | Iterable[str | Path]) -> dict[str, list[str]]:
    """Gene sets of one or several GMT files, or of a mapping.

    Parameters
    ----------
    source
        A file ``.gmt`` or ``.gmt.gz``, several of them, or names of genes by the name of their set. Sets of the same name in
        several files are kept apart.

    Raises
    ------
    ImportError
        If a file is to be read and gseapy is not installed.
    FileNotFoundError, ValueError
        If there is no such file, or no set in it.
    """
    if isinstance(source, Mapping):
        return {str(name): [str(gene) for gene in genes] for name, genes in source.items()}
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    found: dict[str, list[str]] = {}
    for path in paths:
        for name, genes in _read(path).items():
            found[name if name not in found else f"{name} ({path.name})"] = genes
    return found


def _read(path: Path) -> dict[str, list[str]]:
    try:
        from gseapy import read_gmt
    except ImportError as error:
        msg = 'Reading gene sets needs gseapy: pip install "scgenemamba[interpret]"'
        raise ImportError(msg) from error
    if not path.is_file():
        msg = f"There is no file of gene sets {path}."
        raise FileNotFoundError(msg)
    with TemporaryDirectory() as folder:
        if path.suffix == ".gz":
            # gseapy reads plain files only
            plain = Path(folder) / path.stem
            plain.write_bytes(gzip.decompress(path.read_bytes()))
        else:
            plain = path
        sets = read_gmt(str(plain))
    if not sets:
        msg = (
            f"{path} holds no gene set: each line of a GMT file is a name, a description and genes, separated by tabs."
        )
        raise ValueError(msg)
    return sets

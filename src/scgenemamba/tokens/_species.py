"""Which species a list of gene names comes from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from ._gene_table import gene_table
from ._genes import canonical_identifiers

UNKNOWN_SPECIES = "unknown"

_ENSEMBL = {
    "": "human",
    "MUS": "mouse",
    "RNO": "rat",
    "DAR": "zebrafish",
    "MMU": "rhesus macaque",
    "MFA": "crab-eating macaque",
    "PTR": "chimpanzee",
    "GGO": "gorilla",
    "CJA": "marmoset",
    "MIC": "mouse lemur",
    "SSC": "pig",
    "BTA": "cow",
    "OAR": "sheep",
    "CHI": "goat",
    "ECA": "horse",
    "CAF": "dog",
    "FCA": "cat",
    "OCU": "rabbit",
    "CPO": "guinea pig",
    "MAU": "golden hamster",
    "MPU": "ferret",
    "HGL": "naked mole-rat",
    "GAL": "chicken",
    "XET": "frog",
    "MOD": "opossum",
    "ORL": "medaka",
}
_ENSEMBL_ID = re.compile(r"ENS([A-Z]*?)GR?\d{6,}")
# other identifiers and names that only one species has
_OWN_FORMS = {
    "fruit fly": re.compile(r"FBgn\d{7}|CG\d{4,5}|lncRNA:CR\d+"),
    "nematode": re.compile(r"WBGene\d{8}"),
    "thale cress": re.compile(r"AT[1-5MC]G\d{5}"),
    "yeast": re.compile(r"Y[A-P][LR]\d{3}[WC](-[A-Z])?"),
    "mouse": re.compile(r"Gm\d{3,5}|[0-9A-Z]{7}\d{2}Rik|mt-[A-Z]\w+|MGI:\d+|BC\d{6}"),
    "rat": re.compile(r"RGD\d{5,}|AABR\d+\.\d+"),
    "zebrafish": re.compile(r"(si|zgc|zmp|im):[\w-]+(\.\d+)?"),
}
# of names that tell a species at all; unrelated names seldom reach it
_ENOUGH = 0.25


def guess_species(names: Iterable[object]) -> str:
    """Species of genes, from their Ensembl prefixes or else from the way symbols are written.

    Mouse and rat write symbols alike (``Cd3e``); without a name that only rats have the answer is mouse.

    Parameters
    ----------
    names
        Ensembl ids or symbols; a few hundred are enough. Missing names are left out.

    Returns
    -------
    Common English name such as ``"human"``, ``"mouse"`` or ``"zebrafish"``; ``"unknown"`` where names of
    no known species reach a quarter.
    """
    genes = [name for name in canonical_identifiers(names) if name]
    votes = Counter(species for species in map(_from_form, genes) if species)
    rest = [name for name in genes if not _from_form(name)]
    n_forms = sum(votes.values())
    if n_forms < len(genes) / 2:
        votes = _with_symbols(votes, rest)
    if not votes:
        return UNKNOWN_SPECIES
    species, n_votes = max(votes.items(), key=lambda vote: vote[1])
    return species if n_votes >= _ENOUGH * len(genes) else UNKNOWN_SPECIES


def _from_form(name: str) -> str:
    """Species of an identifier that only one has, ``""`` for ordinary symbols."""
    if match := _ENSEMBL_ID.fullmatch(name):
        return _ENSEMBL.get(match.group(1), UNKNOWN_SPECIES)
    return next((species for species, form in _OWN_FORMS.items() if form.fullmatch(name)), "")


def _with_symbols(votes: Counter[str], symbols: list[str]) -> Counter[str]:
    """Add the votes of symbols: as people write them, or a human symbol in another case."""
    knows = gene_table().knows
    rodent = "rat" if votes["rat"] > votes["mouse"] else "mouse"
    added = Counter(votes)
    for name in symbols:
        if knows(name):
            added["human"] += 1
        elif knows(name.upper()) or knows(name.upper().replace("ORF", "orf")):
            if name[0].isupper() and name[1:] == name[1:].lower():
                added[rodent] += 1
            elif name == name.lower():
                added["zebrafish"] += 1
    return added

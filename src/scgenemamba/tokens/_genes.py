"""Gene identifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

# ENSG00000000003.15, ENSMUSG00000000001.5; a symbol such as "RP11-34P13.7" has no such form.
_VERSIONED_ENSEMBL = re.compile(r"^(ENS[A-Z]*G[A-Z]?\d{6,})\.\d+$")


def canonical_identifiers(names: Iterable[object]) -> npt.NDArray[np.object_]:
    """Gene names as plain strings, Ensembl ids without their version suffix.

    Parameters
    ----------
    names
        Gene names, one per feature.

    Returns
    -------
    Object array of ``str``, shape ``(n_features,)``. Missing names become ``""``.
    """
    return np.array([_canonical(name) for name in names], dtype=object)


def _canonical(name: object) -> str:
    if name is None or name != name:  # NaN
        return ""
    text = str(name).strip()
    match = _VERSIONED_ENSEMBL.match(text)
    return match.group(1) if match else text

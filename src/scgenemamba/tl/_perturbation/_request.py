"""What the user asks to perturb and to read, checked before any long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scgenemamba.tl._cells import group_column
from scgenemamba.tokens import Vocabulary, name_some

if TYPE_CHECKING:
    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel

#: A gene, or several that are perturbed together.
Genes = str | Sequence[str | Sequence[str]] | Mapping[str, Sequence[str]]


class NamedChange(NamedTuple):
    """Genes that are perturbed together.

    Attributes
    ----------
    name
        Of the perturbation.
    tokens
        Of the genes, int32.
    """

    name: str
    tokens: npt.NDArray[np.int32]


def named_changes(vocabulary: Vocabulary, genes: Genes) -> list[NamedChange]:
    """Perturbations by name, in their order.

    Raises
    ------
    KeyError
        If the vocabulary lacks a gene.
    ValueError
        If there are none, or a name occurs twice.
    """
    if isinstance(genes, str):
        genes = [genes]
    if isinstance(genes, Mapping):
        named = {str(name): [members] if isinstance(members, str) else [*members] for name, members in genes.items()}
    else:
        sets = [[given] if isinstance(given, str) else [*given] for given in genes]
        named = {"+".join(members): members for members in sets}
        if len(named) < len(sets):
            msg = "`genes`: a perturbation occurs twice."
            raise ValueError(msg)
    if not named or not all(named.values()):
        empty = [name for name, members in named.items() if not members]
        msg = (
            f"`genes`: {name_some(empty)} has no genes." if empty else "`genes` is empty: there is nothing to perturb."
        )
        raise ValueError(msg)
    every = [member for members in named.values() for member in members]
    unknown = [gene for gene, token in zip(every, vocabulary.token_ids(every), strict=True) if token < 0]
    if unknown:
        close = get_close_matches(unknown[0], [*vocabulary.genes], n=3)
        hint = f" Did you mean {name_some(close)}?" if close else ""
        msg = f"`genes`: the model does not know {name_some(unknown)}.{hint}"
        raise KeyError(msg)
    return [
        NamedChange(name, np.array(list(dict.fromkeys(vocabulary.token_ids(members).tolist())), dtype=np.int32))
        for name, members in named.items()
    ]


def check_label(model: GeneMambaModel, label: Any) -> None:
    """Refuse a label whose probability the network does not tell.

    Raises
    ------
    ValueError
        If the model has no labels, or not this one.
    """
    if not model.network_labels:
        msg = "`label`: the network has no classifier; train a model that was set up with `labels_key=`."
        raise ValueError(msg)
    if label not in model.network_labels:
        msg = f"`label`: the model does not know {label!r}; it knows {name_some(model.network_labels, 30)}."
        raise ValueError(msg)


def target_embedding(
    model: GeneMambaModel,
    adata: AnnData,
    toward: Any,
    groupby: str | None,
    representation: str,
    batch_size: int | None,
) -> npt.NDArray[np.float64]:
    """The embedding that cells may come closer to, ``(p,)``: as given, or the mean of a group of cells.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there is no such group, or the vector has another size.
    """
    config = model.module.config
    size = config.n_latent if representation == "latent" else config.d_model * len(config.pooling)
    if not isinstance(toward, str):
        vector = np.asarray(toward, dtype=np.float64)
        if vector.shape != (size,) or not np.isfinite(vector).all() or not vector.any():
            msg = f"`toward` must be the name of a group, or an embedding of {size} finite values that are not all zero; got shape {vector.shape}."
            raise ValueError(msg)
        return vector
    if groupby is None:
        msg = f"`toward` names a group, {toward!r}: say which column of obs has it, `groupby=`."
        raise ValueError(msg)
    column = group_column(adata, groupby)
    rows = np.flatnonzero((column == toward).to_numpy())
    if not len(rows):
        there = name_some(column.cat.remove_unused_categories().cat.categories, 30)
        msg = f"`toward`: no cell of obs[{groupby!r}] is in group {toward!r}; there are {there}."
        raise ValueError(msg)
    cells = model.get_latent_representation(adata, rows, batch_size, representation=representation)  # type: ignore[arg-type]
    return cells.mean(0, dtype=np.float64)

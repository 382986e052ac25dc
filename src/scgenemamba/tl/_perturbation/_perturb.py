"""Perturbing genes in silico."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scgenemamba.tl._cells import chosen_cells
from scgenemamba.tokens import name_some

from ._edits import Kind, check_kind
from ._readout import Readout
from ._request import Genes, check_label, named_changes, target_embedding
from ._run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel

    from ._request import NamedChange

# of the largest effects, among those of the prediction
_LEAST_RECALL = 0.9


def perturb(
    model: GeneMambaModel,
    adata: AnnData | None = None,
    genes: Genes | None = None,
    *,
    kind: Kind = "delete",
    label: Any = None,
    toward: str | npt.NDArray[np.floating] | None = None,
    groupby: str | None = None,
    indices: Sequence[int] | None = None,
    method: Literal["auto", "fast", "exact"] = "auto",
    window: int = 4,
    n_rescored: int = 50,
    n_checked: int = 3,
    n_controls: int = 10,
    representation: Literal["auto", "latent", "pooled"] = "auto",
    random_state: int = 0,
    batch_size: int | None = None,
) -> AnnData:
    """Take genes out of cells, or move them to either end of their rankings, and see what the model then makes of the cells.

    What changes is the model's reading of a ranking, not a cell: the other genes stay as they are, where in a living cell they would react;
    the ranking has no dose; and a gene whose loss the model does not mind may still be needed. Compare with the controls, and see the
    documentation on what perturbing ranks cannot show.

    Parameters
    ----------
    model
        Trained or pretrained model.
    adata
        Cells, ``None`` for those of the training; not changed, but for what scvi-tools registers.
    genes
        A gene, or several perturbations: each a gene, or genes that are perturbed together; a mapping gives them names. ``None`` perturbs
        each gene that a cell expresses.
    kind
        ``"delete"`` takes genes out, ``"overexpress"`` moves them to the front (or adds them there), ``"inhibit"`` moves them to the end.
    label
        Read the probability of this label as well, by the network's own classifier.
    toward
        Read as well how much closer cells come to this embedding: a vector, or the name of a group of cells, whose mean is taken.
    groupby
        Column of ``adata.obs`` with that group.
    indices
        Cells to perturb, ``None`` for all.
    method
        ``"exact"`` encodes each perturbed cell. ``"fast"`` predicts the effects of all genes of a cell, reading anew only what stands around
        them, and encodes those with the largest ones. ``"auto"`` is fast where ``genes`` is ``None`` and the model allows it.
    window
        Genes on each side that the fast method reads anew, see :class:`~scgenemamba.nn.WindowReader`: its cost grows in proportion.
    n_rescored
        Genes of each cell that the fast method encodes.
    n_checked
        Cells of which the fast method encodes all, to tell how good its predictions are.
    n_controls
        Genes as strongly expressed in the same cell that each of given ``genes`` is compared with, 0 for none. Where all genes are perturbed,
        they are compared with the 20 nearest in the ranking, at no cost.
    representation
        As in :meth:`~scgenemamba.GeneMambaModel.get_latent_representation`.
    random_state
        Seed of controls and checked cells.
    batch_size
        Perturbed cells at a time, ``None`` for what suits the device; does not change the result.

    Returns
    -------
    AnnData of cells by perturbations. ``X`` and ``layers["distance"]`` are 1 - cosine of the embeddings before and after; ``layers["toward"]``,
    the change of the cosine with the target, and ``layers["probability"]``, that of the label's probability, are there if asked for. All are
    sparse float32; what is not stored was not perturbed, since the cell lacks the gene. For each there is the median of the controls,
    ``layers["distance_control"]`` and so on, and ``layers["exact"]`` tells what was encoded. ``obs`` is that of the cells,
    ``var["n_cells"]`` the number of cells perturbed. ``uns["perturbation"]`` holds the arguments, ``"n_forwards"`` (passes over a cell that were made),
    ``"n_exact"`` (those that encoding all would take) and with the fast method ``"fidelity"``, a table of the checked cells: share of the
    ``n_rescored`` largest effects that the prediction has among its own (``recall``), and rank correlation over all genes (``spearman``).

    Raises
    ------
    KeyError
        If the model does not know a gene, or there is no such column.
    ValueError
        If no cell expresses any of the genes; if a label, group or vector does not fit; if the fast method is asked for what it cannot do:
        given genes, or a model that pools ``[CLS]`` or reads its padding.

    Examples
    --------
    >>> perturbed = scgenemamba.tl.perturb(model, adata, toward="B cell", groupby="cell_type")
    >>> scgenemamba.tl.perturbation_effects(perturbed, groupby="cell_type")
    """
    cells = _check(
        model,
        adata,
        kind,
        method,
        {"n_rescored": n_rescored, "n_checked": n_checked, "n_controls": n_controls, "window": window},
    )
    changes = None if genes is None else named_changes(model.vocabulary, genes)
    obstacle = _obstacle(model, genes)
    fast = method == "fast" or (method == "auto" and obstacle is None)
    if fast and obstacle is not None:
        msg = f"{obstacle}: take method='exact'."
        raise ValueError(msg)
    if label is not None:
        check_label(model, label)
    model._check_if_trained(warn=False)
    rows = chosen_cells(cells, None, indices, None, random_state)
    chosen = model._choose(representation)
    with model.module.full_precision():
        target = None if toward is None else target_embedding(model, cells, toward, groupby, chosen, batch_size)
        readout = Readout(model, chosen, label, target)
        run = Run(model, readout, kind, random_state=random_state, batch_size=batch_size)
        run.read(adata, rows)
        if fast:
            run.screen(window, n_rescored, n_checked)
            _warn_of_poor_predictions(run)
        elif changes is None:
            run.encode_all()
        else:
            run.encode(changes, n_controls)
    if not run.results:
        names = name_some([change.name for change in changes or ()])
        msg = f"`genes`: none of the {len(rows):,} cells expresses {names}; only kind='overexpress' adds genes."
        raise ValueError(msg)
    told = {"kind": kind, "method": "fast" if fast else "exact", "representation": chosen}
    told |= {"label": str(label)} if label is not None else {}
    told |= {"toward": toward} if isinstance(toward, str) else {}
    return _result(run, cells.obs.iloc[rows].copy(), changes, told)


def _check(model: GeneMambaModel, adata: AnnData | None, kind: str, method: str, numbers: Mapping[str, int]) -> AnnData:
    """The cells; refuses arguments that mean nothing."""
    check_kind(kind)
    if method not in ("auto", "fast", "exact"):
        msg = f"Unknown method {method!r}; choose 'auto', 'fast' or 'exact'."
        raise ValueError(msg)
    for name, number in numbers.items():
        least = int(name == "window")
        if number < least:
            msg = f"`{name}` must be at least {least}, got {number}."
            raise ValueError(msg)
    cells = model.adata if adata is None else adata
    if cells is None:
        msg = "The model has no data of its own: give an AnnData, `adata=`."
        raise ValueError(msg)
    return cells


def _obstacle(model: GeneMambaModel, genes: Genes | None) -> str | None:
    """Why the fast method cannot do what is asked, ``None`` if it can."""
    config = model.module.config
    if genes is not None:
        return "The fast method reads all genes of a cell, and not given ones"
    if config.flip == "full":
        return "The model reads its padding (flip='full'), which has no neighbourhood"
    if config.use_cls:
        return "The model pools [CLS], which reads each gene from afar"
    return None


def _warn_of_poor_predictions(run: Run) -> None:
    if run.fidelity is None or run.fidelity["recall"].mean() >= _LEAST_RECALL:
        return
    from scvi import settings

    msg = (
        f"Of the largest effects in the checked cells, predictions find {run.fidelity['recall'].mean():.0%}: raise `window`, or take "
        "method='exact'."
    )
    warnings.warn(msg, UserWarning, stacklevel=settings.warnings_stacklevel)


def _result(run: Run, obs: pd.DataFrame, changes: list[NamedChange] | None, told: dict[str, Any]) -> AnnData:
    """Effects as a table of cells by perturbations."""
    import anndata as ad

    results = sorted(run.results.items())
    columns = np.concatenate([result.columns for _, result in results])
    rows = np.repeat([cell for cell, _ in results], [len(result.columns) for _, result in results])
    if changes is None:
        # genes that some cell expresses, in the order of the vocabulary
        there, columns = np.unique(columns, return_inverse=True)
        names = run.model.vocabulary.genes[there - run.model.vocabulary.FIRST_GENE]
    else:
        names = np.array([change.name for change in changes], dtype=object)
    shape = (len(obs), len(names))

    def table(values: list[npt.NDArray[Any]], dtype: Any) -> sp.csr_matrix:
        # not through a sum of duplicates, which would drop what is stored as zero
        return sp.csr_matrix((np.concatenate(values).astype(dtype), (rows, columns)), shape=shape)

    layers = {}
    for name in run.readout.names:
        layers[name] = table([result.effects[name] for _, result in results], np.float32)
        layers[f"{name}_control"] = table([result.controls[name] for _, result in results], np.float32)
    layers["exact"] = table([result.exact for _, result in results], bool)
    var = pd.DataFrame({"n_cells": np.bincount(columns, minlength=len(names))}, index=pd.Index(names.astype(str)))
    told |= {"n_forwards": float(run.n_forwards), "n_exact": run.n_exact}
    if run.fidelity is not None:
        told["fidelity"] = run.fidelity.assign(cell=obs.index[run.fidelity["cell"]].astype(str))
    return ad.AnnData(layers["distance"].copy(), obs=obs, var=var, layers=layers, uns={"perturbation": told})

"""Models of cells that stay in their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import settings
from tqdm.auto import tqdm

from scgenemamba._logging import logger
from scgenemamba.train import CellStreamModule, kept_survey, survey

from ._checkpoint import Preprocessing
from ._constants import MEDIANS, RANK_MODE, X_KEY
from ._reference import GeneReference, are_missing
from ._registration import registry_without_data
from ._scale import warn

if TYPE_CHECKING:
    import numpy.typing as npt

    from scgenemamba.train import Survey

    from ._model import GeneMambaModel


class StreamingMixin:
    """Pretraining on files; mixed into :class:`~scgenemamba.GeneMambaModel`."""

    @classmethod
    def setup_files(
        cls,
        paths: str | Path | Sequence[str | Path],
        layer: str | None = None,
        gene_key: str | None = None,
        batch_size: int = 128,
        held_out: float = 0.01,
        validation: Mapping[str, str | Path | Sequence[str | Path]] | None = None,
        model: GeneMambaModel | None = None,
        skip_corrupt: bool = False,
        cache: str | Path | None = None,
    ) -> CellStreamModule:
        """Prepare files for training without loading them: one pass finds their genes, rank factors and scales.

        Files may have different genes, which are matched by name, and values on different scales. A model of them learns from
        tokens alone; there are neither batches nor labels.

        Parameters
        ----------
        paths
            One or several ``.h5ad`` files, zarr folders or annbatch collections.
        layer, gene_key
            Where values and gene names are, as in :meth:`setup_anndata`; the same in all files.
        batch_size
            Cells of a step of each process.
        held_out
            Share of the cells that training does not see, for the validation.
        validation
            Files of further cells for the validation, by the name under which their losses are told.
        model
            A pretrained model that is trained on: its genes and rank factors are kept.
        skip_corrupt
            Leave out files that cannot be used, and warn of each, instead of raising.
        cache
            Folder in which what the pass finds is kept: as long as the files stay as they are, they are not read again.

        Returns
        -------
        A datamodule with a registry.

        Raises
        ------
        FileNotFoundError, ValueError
            Naming the file that cannot be used, and why.
        ImportError
            If boost-histogram is not installed.

        Examples
        --------
        >>> cells = GeneMambaModel.setup_files(["atlas_1.h5ad", "atlas_2.h5ad"])
        >>> model = GeneMambaModel(registry=cells.registry, preset="medium")
        >>> model.train(datamodule=cells, max_epochs=1)
        """
        look = partial(_look_through, layer=layer, gene_key=gene_key, skip_corrupt=skip_corrupt, cache=cache)
        vocabulary, medians = (None, None) if model is None else (model.vocabulary, _factors_of(model))
        found = look("training", _listed(paths), vocabulary=vocabulary, medians=medians)
        further = {
            name: look(name, _listed(files), vocabulary=found.vocabulary, medians=found.medians)
            for name, files in (validation or {}).items()
        }
        cells = CellStreamModule(found, further, batch_size=batch_size, held_out=held_out, seed=int(settings.seed or 0))
        if model is not None:
            cells.registry = model.registry_
            return cells
        factors = Preprocessing("median", found.medians, f"estimated from {found.n_cells} cells of the training data")
        reference = GeneReference(found.vocabulary, factors, 0.0)
        cells.registry = registry_without_data(cls, reference, {"layer": layer, "gene_key": gene_key})
        return cells


def _listed(paths: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)


def _factors_of(model: GeneMambaModel) -> npt.NDArray[np.float64] | None:
    state = model.registry_["field_registries"][X_KEY]["state_registry"]
    if state.get(RANK_MODE, "median") != "median":
        msg = f"Cells of files are ranked by the genes' medians; the model has rank_mode={state[RANK_MODE]!r}."
        raise ValueError(msg)
    if are_missing(state):
        msg = "The model has no rank factors yet: give `gene_medians` to `from_pretrained`, or an AnnData to estimate them from."
        raise ValueError(msg)
    return np.asarray(state[MEDIANS], dtype=np.float64)


def _look_through(name: str, paths: list[str | Path], *, cache: str | Path | None, **options: Any) -> Survey:
    with tqdm(desc=f"Reading the {name} cells once", unit=" cells", leave=False) as bar:
        options["progress"] = partial(_show, bar)
        found = (
            survey(paths, **options) if cache is None else kept_survey(Path(cache) / f"{name}.npz", paths, **options)
        )
    _report(name, found)
    return found


def _show(bar: Any, n_read: int, n_cells: int) -> None:
    bar.total = n_cells
    bar.update(n_read - bar.n)


def _report(name: str, found: Survey) -> None:
    scales = sorted({str(source.scale) for source in found.sources})
    logger.info(
        f"{found.n_cells:,} {name} cells in {len(found.sources)} files; {len(found.vocabulary):,} genes; "
        f"values: {', '.join(scales)}."
    )
    for path, why in found.skipped.items():
        warn(f"{path} is left out: {why}")
    if found.skipped:
        warn(f"{len(found.skipped)} of {len(found.skipped) + len(found.sources)} files are left out.")
    for path, n_empty in found.empty.items():
        warn(f"{n_empty:,} cells of {path} express no gene and teach nothing.")
    for path, n_repeated in found.repeated.items():
        warn(f"{n_repeated:,} cells of {path} are the same, value for value, as cells before them; they count twice.")

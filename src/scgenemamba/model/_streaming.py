"""Models of cells that stay in their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scvi import settings
from tqdm.auto import tqdm

from scgenemamba._logging import logger
from scgenemamba.train import CellStreamModule, survey

from ._checkpoint import Preprocessing
from ._reference import GeneReference
from ._registration import registry_without_data
from ._scale import warn

if TYPE_CHECKING:
    from scgenemamba.train import Survey


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
    ) -> CellStreamModule:
        """Prepare files for training without loading them: one pass finds their genes, rank factors and scales.

        Files may have different genes, which are matched by name, and values on different scales. A model of them learns from
        tokens alone; there are neither batches nor labels.

        Parameters
        ----------
        paths
            One or several ``.h5ad`` files or zarr folders.
        layer, gene_key
            Where values and gene names are, as in :meth:`setup_anndata`; the same in all files.
        batch_size
            Cells of a step of each process.
        held_out
            Share of the cells that training does not see, for the validation.

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
        listed = [paths] if isinstance(paths, str | Path) else list(paths)
        with tqdm(desc="Reading the cells once", unit=" cells", leave=False) as bar:
            found = survey(listed, layer=layer, gene_key=gene_key, progress=lambda n, total: _show(bar, n, total))
        _report(found)
        cells = CellStreamModule(found, batch_size=batch_size, held_out=held_out, seed=int(settings.seed or 0))
        reference = GeneReference(
            found.vocabulary,
            Preprocessing("median", found.medians, f"estimated from {found.n_cells} cells of the training data"),
            0.0,
        )
        cells.registry = registry_without_data(cls, reference, {"layer": layer, "gene_key": gene_key})
        return cells


def _show(bar: Any, n_read: int, n_cells: int) -> None:
    bar.total = n_cells
    bar.update(n_read - bar.n)


def _report(found: Survey) -> None:
    scales = sorted({str(source.scale) for source in found.sources})
    logger.info(
        f"{found.n_cells:,} cells in {len(found.sources)} files express {len(found.vocabulary):,} genes; values: {', '.join(scales)}."
    )
    for path, n_empty in found.empty.items():
        warn(f"{n_empty:,} cells of {path} express no gene and teach nothing.")

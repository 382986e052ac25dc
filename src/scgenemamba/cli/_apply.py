"""Embedding and annotating files with a pretrained model."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from scgenemamba import GeneMambaModel

_ANNDATA = (".h5ad", ".zarr")
_TABLES = (".csv", ".tsv", ".parquet")
_COVERAGE = 0.9


@dataclass(frozen=True)
class Job:
    """What is done to each file.

    Attributes
    ----------
    inputs
        ``.h5ad`` and ``.zarr`` files.
    out
        File for one input, folder for several.
    task
        ``"embed"`` or ``"annotate"``.
    key
        Where the result goes: ``obsm[key]``; ``obs[key]``, ``obs[key + "_probability"]`` and, where the model
        is calibrated, the columns of novelty and prediction sets of :func:`~scgenemamba.tl.annotate`.
    overwrite
        Replace results that are there.
    batch_size
        Cells at a time, ``None`` for scvi-tools' default.
    """

    inputs: Sequence[Path]
    out: Path
    task: Literal["embed", "annotate"]
    key: str
    overwrite: bool
    batch_size: int | None


def run_apply(job: Job, load: Callable[[], GeneMambaModel]) -> None:
    """Run a job; results that are there are skipped, so that it can be started again after an interruption.

    Parameters
    ----------
    job
        What to do.
    load
        Makes the model, called if there is anything to do.

    Raises
    ------
    FileNotFoundError, ValueError
        If an input is missing or of another kind, or a result would replace something.
    """
    pairs = _plan(job)
    todo = [(source, target) for source, target in pairs if job.overwrite or not target.exists()]
    for pair in pairs:
        if pair not in todo:
            _say(f"{pair[1]} is there and is skipped; --overwrite replaces it.")
    if todo:
        with _plain_warnings():
            _work_through(todo, pairs[0], job, load)


def _work_through(
    todo: list[tuple[Path, Path]], first: tuple[Path, Path], job: Job, load: Callable[[], GeneMambaModel]
) -> None:
    from scgenemamba.model._reference import are_missing

    model: Any = load()
    if job.task == "annotate" and not model.labels:
        msg = "The model has no labels: annotate with one that was trained with `labels_key=`, or use `scgenemamba embed`."
        raise ValueError(msg)
    if todo[0] != first and are_missing(model._expression_state()):
        # whichever files are left: what is estimated from data comes from the first one of the list
        _say(f"Rank factors come from the first file, {first[0]}.")
        model._validate_anndata(_read(first[0]))
    for number, (source, target) in enumerate(todo, 1):
        _say(f"[{number}/{len(todo)}] {source}")
        adata = _read(source)
        result = _result(model, adata, job)
        _release(model, adata)
        _write(adata, result, target, job)
        if job.task == "annotate":
            counts = result[job.key].value_counts()
            _say("\n".join(f"{n_cells:>8,}  {label}" for label, n_cells in counts.items()))
        _say(f"[{number}/{len(todo)}] {adata.n_obs} cells -> {target}")


def _plan(job: Job) -> list[tuple[Path, Path]]:
    """Each input and its result."""
    for source in job.inputs:
        if not source.exists():
            msg = f"{source} not found."
            raise FileNotFoundError(msg)
        if source.suffix not in _ANNDATA:
            msg = f"{source} is neither .h5ad nor .zarr."
            raise ValueError(msg)
    known = (*_ANNDATA, *_TABLES)
    if len(job.inputs) == 1 and job.out.suffix in known:
        targets = [job.out]
    elif len(job.inputs) == 1 and _looks_like_file(job.out):
        msg = f"{job.out} is no kind of result: give {', '.join(known)}, or a folder."
        raise ValueError(msg)
    elif job.out.suffix in known or job.out.is_file():
        msg = f"--out must be a folder where there are several inputs, got {job.out}."
        raise ValueError(msg)
    else:
        targets = [job.out / source.name for source in job.inputs]
    if len({target.name for target in targets}) < len(targets):
        msg = "Inputs of equal names would share a result: give them one by one."
        raise ValueError(msg)
    pairs = list(zip(job.inputs, targets, strict=True))
    for source, target in pairs:
        # also within an input, since a .zarr is a folder
        if any(target.resolve().is_relative_to(other.resolve()) for other in job.inputs):
            msg = f"The result of {source} would change an input, {target}: choose another --out."
            raise ValueError(msg)
    return pairs


def _looks_like_file(path: Path) -> bool:
    """Whether a path that is no folder yet ends in letters, as the name of a file does."""
    known = (*_ANNDATA, *_TABLES)
    return path.is_file() or (path.suffix not in known and path.suffix[1:].isalpha() and not path.is_dir())


def _read(path: Path) -> AnnData:
    import anndata as ad

    try:
        return ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)
    except (OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        # whatever h5py, zarr and anndata raise for files that are cut off or of another kind
        msg = f"{path} cannot be read as AnnData: {error}"
        raise ValueError(msg) from error


def _result(model: Any, adata: AnnData, job: Job) -> pd.DataFrame:
    """One row per cell."""
    import pandas as pd

    from scgenemamba.tl._decision import decide

    if job.task == "embed":
        latent = model.get_latent_representation(adata, batch_size=job.batch_size)
        return pd.DataFrame(latent, index=adata.obs_names, columns=[f"{job.key}_{i}" for i in range(latent.shape[1])])
    # the columns of tl.annotate; the classifiers of published weights have no calibration, which coverage needs
    coverage = _COVERAGE if model.annotation_ else None
    known = {str(label) for label in model.labels}
    unknown = next(name for name in ("Unknown", "unknown", "unknown cell", "not known") if name not in known)
    columns, _ = decide(model, adata, job.key, coverage=coverage, unknown_label=unknown, batch_size=job.batch_size)
    return pd.DataFrame(columns, index=adata.obs_names)


def _write(adata: AnnData, result: pd.DataFrame, target: Path, job: Job) -> None:
    """Write under another name first: a result that is there is complete."""
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    _remove(partial)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target.suffix in _TABLES:
            _write_table(result, partial)
        else:
            _forget_setup(adata)
            _add(adata, result, job)
            write = adata.write_zarr if target.suffix == ".zarr" else adata.write_h5ad
            write(partial)
        if target.is_dir():
            _remove(target)
        os.replace(partial, target)
    finally:
        _remove(partial)


def _add(adata: AnnData, result: pd.DataFrame, job: Job) -> None:
    """Add a result to its cells, by position: names of cells may occur twice."""
    if job.task == "embed":
        adata.obsm[job.key] = result.to_numpy()
        return
    for name in result:
        adata.obs[name] = result[name].array


def _write_table(result: pd.DataFrame, path: Path) -> None:
    table = result.rename_axis(index="cell")
    if path.suffix == ".parquet":
        try:
            table.to_parquet(path)
        except ImportError as error:
            msg = "A .parquet file needs pyarrow: pip install pyarrow. A .csv or .tsv file needs nothing."
            raise ImportError(msg) from error
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",")


def _release(model: Any, adata: AnnData) -> None:
    """Let go of cells that are done with: scvi-tools would keep every file in memory."""
    if adata is not model.adata:
        for managers in (model._setup_adata_manager_store, model._per_instance_manager_store[model.id]):
            managers.pop(adata.uns["_scvi_uuid"], None)


def _forget_setup(adata: AnnData) -> None:
    """Remove the columns that scvi-tools added: they mean nothing to others."""
    for table in (adata.obs, adata.obsm, adata.uns):
        for name in [name for name in table if str(name).startswith("_scvi_")]:
            del table[name]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show the package's own warnings without file and line, which mean nothing to whoever runs the command."""
    with warnings.catch_warnings():
        show, own = warnings.showwarning, str(Path(__file__).parents[1])
        # each file has a report of its own
        warnings.filterwarnings("always", module="scgenemamba")

        def show_plainly(message: Any, category: Any, filename: str, *args: Any, **kwargs: Any) -> None:
            if filename.startswith(own):
                _say(f"Warning: {message}")
            else:
                show(message, category, filename, *args, **kwargs)

        warnings.showwarning = show_plainly
        yield


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")

"""Embedding and annotating files with a pretrained model."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from scgenemamba import GeneMambaModel

_ANNDATA = (".h5ad", ".zarr")
_TABLES = (".csv", ".tsv", ".parquet")


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
        Where the result goes: ``obsm[key]``; ``obs[key]`` and ``obs[key + "_probability"]``.
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
    if not todo:
        return
    model: Any = load()
    if job.task == "annotate" and "cell_type" not in model.module.objectives:
        msg = "The model has no labels: annotate with one that was trained with `labels_key=`, or use `scgenemamba embed`."
        raise ValueError(msg)
    # whichever files are left: what is estimated from data comes from the first one
    first = pairs[0][0]
    cells = _read(first)
    model._validate_anndata(cells)
    for number, (source, target) in enumerate(todo, 1):
        _say(f"[{number}/{len(todo)}] {source}")
        adata = cells if source == first else _read(source)
        _write(adata, _result(model, adata, job), target, job)
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
    elif job.out.suffix in known or job.out.is_file():
        msg = f"--out must be a folder where there are several inputs, got {job.out}."
        raise ValueError(msg)
    else:
        targets = [job.out / source.name for source in job.inputs]
    if len({target.name for target in targets}) < len(targets):
        msg = "Inputs of equal names would share a result: give them one by one."
        raise ValueError(msg)
    for source, target in zip(job.inputs, targets, strict=True):
        if target.resolve() in {other.resolve() for other in job.inputs}:
            msg = f"The result of {source} would replace an input, {target}: choose another --out."
            raise ValueError(msg)
    return list(zip(job.inputs, targets, strict=True))


def _read(path: Path) -> AnnData:
    import anndata as ad

    return ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)


def _result(model: Any, adata: AnnData, job: Job) -> pd.DataFrame:
    """One row per cell."""
    import pandas as pd

    if job.task == "embed":
        latent = model.get_latent_representation(adata, batch_size=job.batch_size)
        return pd.DataFrame(latent, index=adata.obs_names, columns=[f"{job.key}_{i}" for i in range(latent.shape[1])])
    probabilities = model.predict(adata, soft=True, batch_size=job.batch_size)
    best = {job.key: probabilities.columns[probabilities.to_numpy().argmax(1)].astype(str)}
    return pd.DataFrame({**best, f"{job.key}_probability": probabilities.max(axis=1).to_numpy()}, index=adata.obs_names)


def _write(adata: AnnData, result: pd.DataFrame, target: Path, job: Job) -> None:
    """Write under another name first: a result that is there is complete."""
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    _remove(partial)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix in _TABLES:
        _write_table(result, partial)
    else:
        _forget_setup(adata)
        if job.task == "embed":
            adata.obsm[job.key] = result.to_numpy()
        else:
            for name in result:
                adata.obs[name] = result[name].astype("category") if name == job.key else result[name]
        write = adata.write_zarr if target.suffix == ".zarr" else adata.write_h5ad
        write(partial)
    _remove(target)
    os.replace(partial, target)


def _write_table(result: pd.DataFrame, path: Path) -> None:
    table = result.rename_axis(index="cell")
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",")


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


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")

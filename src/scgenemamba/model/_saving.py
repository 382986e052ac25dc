"""Checkpoints from models."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._card import model_card
from ._checkpoint import KEPT, write_native, write_published

if TYPE_CHECKING:
    import torch

_PACKAGES = ("scgenemamba", "torch", "scvi-tools", "anndata", "numpy")


class SavingMixin:
    """Writing checkpoints; mixed into :class:`~scgenemamba.GeneMambaModel`."""

    # supplied by the model
    module: Any
    vocabulary: Any
    registry_: dict[str, Any]
    init_params_: dict[str, Any]
    published_classes_: list[str]
    annotation_: dict[str, Any]
    head_trained_: bool

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        format: Literal["scgenemamba", "published"] = "scgenemamba",
        dtype: torch.dtype | None = None,
        about: str | None = None,
    ) -> None:
        """Save weights as safetensors and everything else as JSON, with a model card: a folder ready for a hub.

        Parameters
        ----------
        save_directory
            Made if it does not exist; files of the same names are replaced.
        format
            ``"published"`` writes the encoder, and the head over the vocabulary, in the layout of the published
            GeneMamba, for encoders that fit it.
        dtype
            Of the weights, such as ``torch.bfloat16`` for a file of half the size; ``None`` keeps single precision. They are
            read back as single precision, rounded.
        about
            Markdown for the card: training data with citations and licences, measured quality, limits.

        Raises
        ------
        ValueError
            If the published layout cannot hold the encoder, or is asked for with another ``dtype``.
        """
        folder = Path(save_directory)
        if folder.is_file():
            msg = f"{folder} is a file; give a folder."
            raise ValueError(msg)
        if format not in ("scgenemamba", "published"):
            msg = f"Unknown format {format!r}; choose 'scgenemamba' or 'published'."
            raise ValueError(msg)
        if format == "published" and dtype is not None:
            msg = "The published layout has single precision: leave out `dtype`."
            raise ValueError(msg)
        if format == "published":
            self._write_published(folder)
        else:
            self._write_native(folder, dtype, about)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        dtype: torch.dtype | None = None,
        about: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Upload what :meth:`save_pretrained` writes to a repository of the Hugging Face hub.

        Parameters
        ----------
        repo_id
            ``"owner/name"``; made if it does not exist.
        private
            Whether a new repository is private.
        token
            Of the hub; ``None`` takes that of ``hf auth login``.
        dtype, about
            As in :meth:`save_pretrained`.
        **kwargs
            Of :meth:`huggingface_hub.HfApi.upload_folder`, such as ``commit_message``.

        Returns
        -------
        Address of the upload.
        """
        from tempfile import TemporaryDirectory

        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype=dtype, about=about)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, **kwargs))

    def _write_published(self, folder: Path) -> None:
        objectives, classifier = self.module.objectives, self.module.published_classifier
        has_head = "masked_genes" in objectives and self.head_trained_
        write_published(
            folder,
            self.module.config,
            self.vocabulary,
            self.module.network.encoder.state_dict(),
            objectives["masked_genes"].head.state_dict() if has_head else {},
            classifier={} if classifier is None else classifier.state_dict(),
            classes=self.published_classes_,
        )

    def _write_native(self, folder: Path, dtype: torch.dtype | None, about: str | None) -> None:
        arguments = self.init_params_.items()
        versions = {package: version(package) for package in _PACKAGES}
        write_native(
            folder,
            config=self.module.config,
            state=self.module.state_dict(),
            registry=self.registry_,
            init={part: {k: v for k, v in values.items() if k != "registry"} for part, values in arguments},
            attributes={name: getattr(self, name) for name in KEPT if hasattr(self, name)},
            annotation=self.annotation_,
            versions=versions,
            dtype=dtype,
        )
        (folder / "README.md").write_text(model_card(self, versions, about), encoding="utf-8")

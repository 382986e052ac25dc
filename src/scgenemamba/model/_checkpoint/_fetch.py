"""Finding a checkpoint: a folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from scgenemamba._logging import logger

from ._files import TOKENIZERS

#: Models that come with the package.
SHIPPED = Path(__file__).parents[2] / "pretrained"
_NAME = re.compile(r"[a-z0-9\-]+")
# nothing else is ever fetched
_PATTERNS = ("*.safetensors", "*.json", "*.md")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")


def fetch(
    source: str | Path, *, subfolder: str | None = None, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """Folder of a checkpoint, fetched from the Hugging Face hub where it is not one of this machine.

    Parameters
    ----------
    source
        A folder, the name of a model that comes with the package, or a repository ``"owner/name"``.
    subfolder
        Folder within it.
    revision
        Branch, tag or commit of the repository.
    local_files_only
        Take a repository from the cache, and never from the network.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, repository or subfolder.
    ConnectionError
        If the repository is not in the cache and cannot be reached.
    """
    folder = Path(os.path.expanduser(source))
    subfolder = (subfolder.rstrip("/") or "/") if subfolder else None
    shipped = SHIPPED / str(source)
    if not folder.is_dir() and _NAME.fullmatch(str(source)) and shipped.is_dir():
        folder = shipped
    if not folder.is_dir():
        if folder.exists() or not _REPOSITORY.fullmatch(str(source)):
            names = ", ".join(repr(path.name) for path in sorted(SHIPPED.iterdir()))
            msg = f"{str(source)!r} is neither a folder nor a repository 'owner/name' of the Hugging Face hub, nor a model that comes with the package: {names}."
            raise FileNotFoundError(msg)
        folder = _download(str(source), subfolder, revision, local_files_only)
    if subfolder is None:
        return folder
    inside = (folder / subfolder).resolve()
    if not inside.is_relative_to(folder.resolve()) or not inside.is_dir():
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        msg = f"Subfolder {subfolder!r} not found in {source}; it has {folders or 'none'}."
        raise FileNotFoundError(msg)
    return folder / subfolder


def _download(repository: str, subfolder: str | None, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    # the tokenizer of all sizes lies at the root
    patterns = [*[f"{subfolder}/{pattern}" for pattern in _PATTERNS], *TOKENIZERS] if subfolder else list(_PATTERNS)
    options: dict[str, Any] = {"revision": revision, "allow_patterns": patterns}
    options["ignore_patterns"] = None if subfolder else ["*/*"]
    logger.info(f"Fetching {repository} from the Hugging Face hub (only safetensors and JSON).")
    try:
        return Path(snapshot_download(repository, local_files_only=local_files_only, **options))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        msg = f"Repository {repository!r} (revision {revision or 'main'}) not found, or it is private: log in with `hf auth login`."
        raise FileNotFoundError(msg) from error
    except (LocalEntryNotFoundError, OSError) as error:
        asked = "and `local_files_only=True`" if local_files_only else "and the hub cannot be reached"
        msg = f"{repository!r} is not in the cache {asked}. Fetch it where there is a network, or give a folder. ({type(error).__name__})"
        raise ConnectionError(msg) from error

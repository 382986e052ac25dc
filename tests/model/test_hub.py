"""scvi-tools' HubModel holds our models, and our own folders go to a hub."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import scvi.hub as hub

from scgenemamba import GeneMambaModel


def test_a_hub_model_loads_ours(trained, tmp_path):
    folder = tmp_path / "model"
    trained.save(folder, save_anndata=True)
    metadata = hub.HubMetadata.from_dir(
        str(folder), anndata_version=anndata.__version__, model_parent_module="scgenemamba"
    )
    # scvi-tools writes cards of its own models only
    trained.save_pretrained(tmp_path / "ours")
    model = hub.HubModel(str(folder), metadata=metadata, model_card=str(tmp_path / "ours" / "README.md"))
    model.load_model()
    again = model.model
    assert isinstance(again, GeneMambaModel)
    np.testing.assert_array_equal(again.get_latent_representation(), trained.get_latent_representation())


class Api:
    """Stands in for the hub."""

    made: list = []

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, *, private, exist_ok):
        self.made.append((repo_id, private, exist_ok, self.token))

    def upload_folder(self, *, repo_id, folder_path, **kwargs):
        self.made.append((sorted(path.name for path in Path(folder_path).iterdir()), kwargs))
        return f"https://hub/{repo_id}"


def test_a_model_is_pushed_as_safetensors_and_json(trained, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(Api, "made", [])
    address = trained.push_to_hub("me/model", private=True, token="t", commit_message="first")
    assert address == "https://hub/me/model"
    files = ["README.md", "annotation.safetensors", "config.json"]
    files += ["model.safetensors", "preprocessing.safetensors", "tokenizer.json"]
    assert Api.made == [("me/model", True, True, "t"), (files, {"commit_message": "first"})]


def test_the_card_says_what_the_model_is(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: scgenemamba\n")
    for words in ("1 x 32", "type0, type1, type2", "masked genes", "estimated from 120 cells", "scvi-tools"):
        assert words in card

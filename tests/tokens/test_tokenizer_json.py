"""Tokenizer files of published checkpoints."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from scgenemamba.tokens import Vocabulary, _tokenizer_json, read_tokenizer_json, write_tokenizer_json

VOCABULARY = Vocabulary(["ENSG00000198851", "CD19", "Größe"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokenizer.json"


@pytest.fixture
def content(path):
    write_tokenizer_json(path, VOCABULARY)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("cls", [False, True])
def test_there_and_back(path, cls):
    write_tokenizer_json(path, VOCABULARY, cls=cls)
    assert read_tokenizer_json(path).genes.tolist() == VOCABULARY.genes.tolist()
    tokens = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    assert tokens.get("[CLS]") == (VOCABULARY.cls_id if cls else None)


def test_the_published_layout(content):
    model = content.pop("model")
    assert model["type"] == "WordLevel"
    assert model["unk_token"] == "[UNK]"
    assert model["vocab"] == {"[UNK]": 0, "[PAD]": 1, "ENSG00000198851": 2, "CD19": 3, "Größe": 4}
    assert content.pop("pre_tokenizer") == {"type": "Whitespace"}
    assert content.pop("added_tokens") == []
    assert content.pop("version") == "1.0"
    assert set(content.values()) == {None}


def test_added_special_tokens_are_left_out(path, content):
    content["added_tokens"] = [
        {"id": 0, "content": "[UNK]", "special": True},
        {"id": 5, "content": "[CLS]", "special": True},
        {"id": 6, "content": "[MASK]", "special": True},
    ]
    path.write_text(json.dumps(content))
    assert read_tokenizer_json(path).genes.tolist() == VOCABULARY.genes.tolist()


def with_vocab(**changes):
    def change(content):
        vocab = {**content["model"]["vocab"], **changes}
        content["model"]["vocab"] = {name: i for name, i in vocab.items() if i != "gone"}

    return change


def with_model(**changes):
    return lambda content: content["model"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_model(type="BPE"), "of type BPE, not WordLevel"),
        (with_model(vocab=[]), "has no 'vocab'"),
        (with_model(vocab={"[UNK]": 0, "[PAD]": 1}), "no genes"),
        (lambda content: content.pop("model"), "no 'model'"),
        (with_vocab(CD19="gone"), "no token has the id 3"),
        (with_vocab(CD19=2), "have the id 2"),
        (with_vocab(CD19="3"), "not a whole number"),
        (with_vocab(CD19=True), "not a whole number"),
        (with_vocab(CD19=-1), "no token has the id 3"),
        (with_vocab(**{"[UNK]": 1, "[PAD]": 0}), "not \\[UNK\\] and \\[PAD\\]"),
        (with_vocab(**{"[CLS]": 3, "CD19": 5}), "\\[CLS\\] is among the genes"),
        (with_vocab(**{"CD19": "gone", "": 3}), "a gene has no name"),
        (lambda content: content.update(added_tokens=[{"id": 5, "content": "CD8A"}]), "'CD8A' is not a special"),
        (lambda content: content.update(added_tokens=[{"id": 9, "content": "[UNK]"}]), "two ids"),
        (lambda content: content.update(added_tokens={"a": 1}), "not a list"),
    ],
)
def test_other_layouts_are_refused(path, content, change, message):
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_tokenizer_json(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "\x80", '{"model": {"type": "WordLevel", "vocab": {"a": 0, "a": 1}}}']
)
def test_other_files_are_refused(path, text):
    path.write_text(text, encoding="latin1")
    with pytest.raises(ValueError, match="tokenizer.json is not a tokenizer of genes"):
        read_tokenizer_json(path)


def test_huge_files_are_refused_unread(path, content, monkeypatch):
    monkeypatch.setattr(_tokenizer_json, "_MAX_BYTES", 10)
    with pytest.raises(ValueError, match="more than any vocabulary"):
        read_tokenizer_json(path)


def test_genes_like_special_tokens_are_not_written(path):
    with pytest.raises(ValueError, match="read as a special token"):
        write_tokenizer_json(path, Vocabulary(["a", "[MASK]"]))


def test_the_published_vocabulary(path, real_data):
    table = pd.read_csv(real_data("genes/genemamba_vocab_medians.tsv.gz"), sep="\t")
    vocabulary = Vocabulary(table["ensembl_id"].iloc[2:])
    write_tokenizer_json(path, vocabulary)
    again = read_tokenizer_json(path)
    assert len(again) == 25_424
    assert again.genes.tolist() == vocabulary.genes.tolist()

"""Vocabulary in the tokenizer file of published checkpoints, without the packages that usually read it."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from ._vocabulary import Vocabulary

_UNK, _PAD, _CLS = "[UNK]", "[PAD]", "[CLS]"
# the published file has 0.8 MB
_MAX_BYTES = 64 * 2**20


def read_tokenizer_json(path: str | os.PathLike[str]) -> Vocabulary:
    """Vocabulary of a WordLevel tokenizer file (``tokenizer.json``, ``gene_tokenizer.json``).

    Special tokens after the last gene, such as ``[CLS]``, are no genes and are left out, whether they are in
    the vocabulary or among the added tokens.

    Parameters
    ----------
    path
        File in the format of the package ``tokenizers``.

    Raises
    ------
    ValueError
        If the file is larger than 64 MB, no such file, or a vocabulary of another layout: ``[UNK]`` is 0,
        ``[PAD]`` is 1, genes follow without a gap.
    """
    path = Path(path)
    if (size := path.stat().st_size) > _MAX_BYTES:
        _refuse(path, f"it has {size / 2**20:,.0f} MB, more than any vocabulary of genes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        msg = f"{path.name} is not a tokenizer of genes: it cannot be read as JSON ({error})."
        raise ValueError(msg) from error
    tokens = _by_id(path, _all_tokens(path, content))
    if tokens[:2] != [_UNK, _PAD]:
        _refuse(path, f"the first tokens are {tokens[:2]}, not {_UNK} and {_PAD}")
    n_tokens = len(tokens)
    while n_tokens > Vocabulary.FIRST_GENE and _is_special(tokens[n_tokens - 1]):
        n_tokens -= 1
    genes = tokens[Vocabulary.FIRST_GENE : n_tokens]
    if not genes:
        _refuse(path, "it has no genes")
    if special := next(filter(_is_special, genes), None):
        _refuse(path, f"the special token {special} is among the genes")
    if "" in genes:
        _refuse(path, "a gene has no name")
    return Vocabulary(genes)


def write_tokenizer_json(path: str | os.PathLike[str], vocabulary: Vocabulary, *, cls: bool = False) -> None:
    """Write a vocabulary as published checkpoints have it.

    Parameters
    ----------
    path
        File to write.
    vocabulary
        Genes in token order.
    cls
        Whether ``[CLS]`` follows the last gene.

    Raises
    ------
    ValueError
        If a gene is written like a special token.
    """
    if special := next(filter(_is_special, vocabulary.genes), None):
        msg = f"The gene {special} would be read as a special token."
        raise ValueError(msg)
    tokens = [_UNK, _PAD, *vocabulary.genes, *([_CLS] if cls else [])]
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": _UNK},
    }
    Path(path).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _all_tokens(path: Path, content: Any) -> dict[str, int]:
    """Ids of the tokens of the model and of added ones."""
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        _refuse(path, "it has no 'model'")
    if model.get("type") != "WordLevel":
        _refuse(path, f"its model is of type {model.get('type')}, not WordLevel")
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        _refuse(path, "its model has no 'vocab'")
    tokens = dict(vocab)
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        _refuse(path, "'added_tokens' is not a list of tokens")
    for token in added:
        name, token_id = token.get("content"), token.get("id")
        if not isinstance(name, str) or tokens.setdefault(name, token_id) != token_id:
            _refuse(path, f"the added token {name!r} has no name, or two ids")
        if name not in vocab and not _is_special(name):
            _refuse(path, f"the added token {name!r} is not a special one")
    return tokens


def _by_id(path: Path, tokens: dict[str, int]) -> list[str]:
    """Tokens in the order of their ids, which are 0 to n - 1."""
    by_id: dict[int, str] = {}
    for name, token_id in tokens.items():
        if type(token_id) is not int:
            _refuse(path, f"the id of {name!r} is {token_id!r}, not a whole number")
        if token_id in by_id:
            _refuse(path, f"{name!r} and {by_id[token_id]!r} have the id {token_id}")
        by_id[token_id] = name
    missing = next((i for i in range(len(by_id)) if i not in by_id), None)
    if missing is not None:
        _refuse(path, f"no token has the id {missing}, though there are {len(by_id)} tokens")
    return [by_id[i] for i in range(len(by_id))]


def _is_special(token: str) -> bool:
    return token.startswith("[") and token.endswith("]") or token.startswith("<") and token.endswith(">")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        msg = f"{name!r} is there twice"
        raise ValueError(msg)
    return result


def _refuse(path: Path, reason: str) -> NoReturn:
    msg = f"{path.name} is not a tokenizer of genes: {reason}."
    raise ValueError(msg)

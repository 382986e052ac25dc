"""Graphs of genes for other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from anndata import AnnData


def gene_graph(
    genes: AnnData,
    *,
    key: str = "gene_neighbors",
    min_similarity: float | None = None,
    package: Literal["networkx", "igraph"] = "networkx",
) -> Any:
    """Turn what :func:`gene_neighbors` found into a graph of networkx or igraph.

    Parameters
    ----------
    genes
        Genes, after :func:`gene_neighbors`. Subset them for a graph of some.
    key
        Its ``key_added``.
    min_similarity
        Leave out what is less similar.
    package
        Whose graph to make.

    Returns
    -------
    ``networkx.Graph`` or ``igraph.Graph``, undirected. Nodes are named as observations are and have the columns of ``genes.obs`` as attributes,
    edges the similarity as ``weight``. Genes without neighbours are nodes as well.

    Raises
    ------
    KeyError
        If there is no such key.
    ValueError
        If the package is neither of the two.
    """
    if package not in ("networkx", "igraph"):
        msg = f"Unknown package {package!r}; choose 'networkx' or 'igraph'."
        raise ValueError(msg)
    upper = sp.triu(connectivities(genes, key), k=1).tocoo()
    kept = np.ones(upper.nnz, dtype=bool) if min_similarity is None else upper.data >= min_similarity
    first, second, weight = upper.row[kept].tolist(), upper.col[kept].tolist(), upper.data[kept].tolist()
    names = genes.obs_names.astype(str).tolist()
    attributes = {str(column): genes.obs[column].tolist() for column in genes.obs}
    if package == "igraph":
        import igraph

        return igraph.Graph(
            n=len(names),
            edges=[*zip(first, second, strict=True)],
            vertex_attrs={**attributes, "name": names},
            edge_attrs={"weight": weight},
        )
    import networkx as nx

    graph = nx.Graph()
    for i, name in enumerate(names):
        graph.add_node(name, **{column: values[i] for column, values in attributes.items()})
    graph.add_weighted_edges_from((names[a], names[b], w) for a, b, w in zip(first, second, weight, strict=True))
    return graph


def connectivities(genes: AnnData, key: str) -> sp.csr_matrix:
    """Similarities of neighbours, CSR ``(n, n)``.

    Raises
    ------
    KeyError
        If there is no such key.
    """
    if key not in genes.uns or "connectivities_key" not in genes.uns[key]:
        msg = f"`key`: genes.uns has no neighbours {key!r}; run `scgenemamba.tl.gene_neighbors(genes)` first."
        raise KeyError(msg)
    return genes.obsp[genes.uns[key]["connectivities_key"]].tocsr()

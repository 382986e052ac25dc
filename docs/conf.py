"""Configuration of the documentation; see https://www.sphinx-doc.org/en/master/usage/configuration.html."""

from __future__ import annotations

import os
import re
import shutil
from datetime import datetime
from importlib.metadata import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
ROOT = HERE.parent

# -- Project ------------------------------------------------------------------

info = metadata("scgenemamba")
project = info["Name"]
author = info["Author"]
copyright = f"{datetime.now():%Y}, {author}"
version = release = info["Version"]
repository_url = "https://github.com/scgenemamba/scgenemamba"

# -- General ------------------------------------------------------------------

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "sphinxcontrib.katex",
    "sphinxext.opengraph",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
default_role = "literal"

autosummary_generate = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_ivar = True  # otherwise "Attributes" sections describe again what autodoc lists
napoleon_use_rtype = True
typehints_defaults = "braces"
always_use_bars_union = True

# Notebooks are committed with their outputs; nothing is trained while the pages are built.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}  # generated pages get the first

suppress_warnings = [
    "sphinx_autodoc_typehints.guarded_import",  # names that dependencies import for type checkers only
    "sphinx_autodoc_typehints.forward_reference",  # the same, where such a name is met in a signature
]

# -- Links --------------------------------------------------------------------

# Every link to something of our own must lead somewhere (`nitpicky`, with -W). Links into other projects cannot be
# held to that: their inventories live on other machines, and a build without a network must pass as well. So the
# inventories are fetched on Read the Docs, or where DOCS_INTERSPHINX is set, and external names that
# stay unresolved are text instead of links.
nitpicky = True
intersphinx_timeout = 10
intersphinx_mapping = {
    "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
    "lightning": ("https://lightning.ai/docs/pytorch/stable/", None),
    "matplotlib": ("https://matplotlib.org/stable/", None),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "pandas": ("https://pandas.pydata.org/docs/", None),
    "python": ("https://docs.python.org/3/", None),
    "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
    "scipy": ("https://docs.scipy.org/doc/scipy/", None),
    "scvi-tools": ("https://docs.scvi-tools.org/en/stable/", None),
    "torch": ("https://docs.pytorch.org/docs/stable/", None),
}
if not ("READTHEDOCS" in os.environ or "DOCS_INTERSPHINX" in os.environ):
    intersphinx_mapping = {}

_EXTERNAL = "abc|anndata|collections|lightning|matplotlib|mudata|np|npt|numpy|pandas|pathlib|pytorch_lightning"
_EXTERNAL += "|huggingface_hub|os|peft|scanpy|scipy|scvi|sp|torch|torchmetrics|typing"
nitpick_ignore_regex = [
    ("py:.*", rf"({_EXTERNAL})(\..*)?"),
    ("py:.*", "(optional|array-like|default.*)"),  # words that numpydoc allows where a type stands
]
nitpick_ignore: list[tuple[str, str]] = [
    # One line each, with the reason, for a missing link that is not ours to mend.
    ("py:data", "Ellipsis"),  # the dots of tuple[str, ...]
    ("py:class", "scgenemamba.model._inference.InferenceMixin"),  # its methods are shown as the model's own
    ("py:class", "scgenemamba.model._annotation.AnnotationMixin"),  # its methods are shown as the model's own
    (
        "py:class",
        "scgenemamba.model._annotation_fitting.AnnotationFittingMixin",
    ),  # its methods are shown as the model's own
    ("py:class", "scgenemamba.model._pretrained.PretrainedMixin"),  # likewise
    ("py:class", "scgenemamba.model._query.QueryMixin"),  # likewise
    ("py:class", "scgenemamba.model._saving.SavingMixin"),  # likewise
    ("py:class", "scgenemamba.model._streaming.StreamingMixin"),  # likewise
    ("py:class", "scgenemamba.model._training.TrainingMixin"),  # its methods are shown as the model's own
]

# -- HTML ---------------------------------------------------------------------

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["css/custom.css"]
html_theme_options = {
    "repository_url": repository_url,
    "repository_branch": "main",
    "path_to_docs": "docs/",
    "use_repository_button": True,
    "navigation_with_keys": False,
}
ogp_site_url = "https://scgenemamba.readthedocs.io/"
# Preview pictures would be drawn for every page of every build.
ogp_social_cards = {"enable": False}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


# -- Hooks --------------------------------------------------------------------


def copy_tutorials(app: Sphinx, config: Config) -> None:
    """Bring the notebooks, whose only copy lies in tutorials/, to where Sphinx reads."""
    target = HERE / "tutorials" / "notebooks"
    sources = sorted((ROOT / "tutorials").glob("*.ipynb"))
    target.mkdir(exist_ok=True)
    for stale in {page.name for page in target.glob("*.ipynb")} - {page.name for page in sources}:
        (target / stale).unlink()
    for source in sources:
        shutil.copy2(source, target)  # keeps the time stamp, so that unchanged notebooks are not read again


def link_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Lead scgenemamba.nn._encoder.Encoder, the name in type hints, to scgenemamba.nn.Encoder, the name in the API."""
    name = node.get("reftarget", "")
    if not name.startswith("scgenemamba."):
        return None
    public = ".".join(part for part in name.split(".") if not part.startswith("_"))
    domain = env.get_domain("py")
    for target in (public, f"scgenemamba.{name.rpartition('.')[2]}"):
        text = nodes.literal("", contnode.astext().replace(name, target), classes=contnode["classes"])
        if link := domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, text):
            return link
    return None


def skip_foreign_members(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Show the members of our own classes and mixins, not those that scvi-tools, Lightning and torch document."""
    if type(obj).__name__ == "_tuplegetter":  # "Alias for field number 0"
        return True
    if name == "save":  # the half of saving and loading that is used as it comes
        return None
    function = getattr(obj, "fget", None) or getattr(obj, "__func__", obj)
    module = getattr(function, "__module__", None)
    return True if isinstance(module, str) and module.partition(".")[0] != "scgenemamba" else None


def prepare_for_napoleon(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Write out two things that numpydoc allows and napoleon reads differently."""
    if what in {"attribute", "property"} and lines and ":" in lines[0]:
        lines[:0] = ["..", ""]  # else "Size: one per cell." would be read as an attribute of type "Size"
    for start in reversed(range(len(lines) - 1)):
        # "batch, labels" with one description for both
        if re.fullmatch(r"\w+(, \w+)+", lines[start]) and lines[start + 1].startswith(" "):
            end = start + 1
            while end < len(lines) and lines[end].startswith(" "):
                end += 1
            description = lines[start + 1 : end]
            lines[start:end] = [line for shared in lines[start].split(", ") for line in (shared, *description)]


def setup(app: Sphinx) -> None:
    """Connect the hooks."""
    app.connect("config-inited", copy_tutorials)
    app.connect("missing-reference", link_public_name)
    app.connect("autodoc-process-docstring", prepare_for_napoleon, priority=400)  # napoleon has 500
    app.connect("autodoc-skip-member", skip_foreign_members)

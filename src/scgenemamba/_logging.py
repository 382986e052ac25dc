"""The logger: a child of scvi-tools', so that its handler and ``scvi.settings.verbosity`` apply."""

from __future__ import annotations

import logging

logger = logging.getLogger("scvi.scgenemamba")

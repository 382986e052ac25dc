"""What becomes of cells whose genes are changed."""

from ._effects import perturbation_effects
from ._perturb import perturb

__all__ = ["perturb", "perturbation_effects"]

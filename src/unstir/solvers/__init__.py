"""One step t -> s; one file per method. `__all__` names every solver and nothing else."""

from .ddim import DDIM
from .ddpm import DDPM
from .dpmpp2m import DPMpp2M
from .euler import Euler
from .heun import Heun

__all__ = ["DDIM", "DDPM", "DPMpp2M", "Euler", "Heun"]

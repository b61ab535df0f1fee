"""One step t -> s; one file per method. `__all__` names every solver and nothing else."""

from .adams import AdamsBashforth
from .adaptive import Adaptive
from .ancestral import Ancestral
from .ddim import DDIM
from .ddpm import DDPM
from .deis import DEIS
from .dpmpp2m import DPMpp2M
from .dpmpp2s import DPMpp2S
from .dpmpp3m import DPMpp3M
from .euler import Euler
from .euler_maruyama import EulerMaruyama
from .heun import Heun
from .langevin import Langevin
from .pndm import PNDM
from .predictor_corrector import PredictorCorrector
from .restart import Restart
from .runge_kutta import RungeKutta
from .sa_solver import SASolver
from .unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "PNDM",
    "AdamsBashforth",
    "Adaptive",
    "Ancestral",
    "DPMpp2M",
    "DPMpp2S",
    "DPMpp3M",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "Langevin",
    "PredictorCorrector",
    "Restart",
    "RungeKutta",
    "SASolver",
    "UniPC",
]

"""The fourier engine: embedded, on the processor, its library imported only when it runs."""

from tomovault.core.ports import Engine
from tomovault.engines.fourier.engine import FourierEngine

PLUGIN: type[Engine] = FourierEngine

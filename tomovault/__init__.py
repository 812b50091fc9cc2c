"""tomovault: the life of tomography data, from the detector to the tape and back."""

__version__ = "0.1.0"

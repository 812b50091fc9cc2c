"""A beamline's future in memory: what is decided is `policy` and `core`; time, bytes and machines are a model."""

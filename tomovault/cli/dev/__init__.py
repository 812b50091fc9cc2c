"""For trying things out: a simulated beamline, a demonstration, a local Transfer service."""

"""For trying things out: a simulated beamline."""

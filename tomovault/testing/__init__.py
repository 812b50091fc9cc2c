"""Shipped fakes and simulated acquisition writers, for our tests and for sites that try a policy."""

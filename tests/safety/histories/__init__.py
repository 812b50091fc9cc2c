"""What a history is made of: a site, what may happen to it, the policies that rule it, and the laws that look on.

`tests/safety/conftest.py` loads this folder as a package of its own; the tests get what they need from its fixtures.
"""

"""Which requests a library serves next, on which cartridge, in which drive and in which order; and when each is over.

Pure: it knows what is asked for, what is in the drives and what their moves cost, and moves nothing.
"""

"""Transfer services: data given to other places by those who move it."""

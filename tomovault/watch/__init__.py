"""What the daemon sees of file servers: walker, settling, acquisition guard."""

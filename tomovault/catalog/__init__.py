"""The SQL catalogue: tables, queries, records. The only SQL of the project."""

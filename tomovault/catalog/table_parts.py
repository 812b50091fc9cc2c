"""What tables of the catalogue are made of: how their constraints are named, their keys, and indexes of few rows."""

from __future__ import annotations

from sqlalchemy import Index, MetaData, String, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(32)
#: A sha256 in hexadecimal: of bytes, or of a place, since an index entry has a size limit and a path has not.
KEY = String(64)


def index_of_few(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows of which that is true."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))

"""Needed by Alembic, though no migration is generated here."""

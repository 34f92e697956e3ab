"""Measures the project's databases: queries, transactions, connections and psycopg's pools.

The modules are imported only if ``PROM_DATABASE`` is on. They change no engine and no class of Django. Each
connection object gets an execute wrapper and a few attributes of its own.
"""

"""The rules of the league and its tables: pure functions on arrays and tables; no files, no networks."""

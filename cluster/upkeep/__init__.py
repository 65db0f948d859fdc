"""Looking after a root between runs: garbage, retention, verification, repair, gathering."""

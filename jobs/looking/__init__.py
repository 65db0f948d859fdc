"""Looking at what is there: runs, costs, differences, traces; single operators on plain files."""

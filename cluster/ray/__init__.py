"""Ray at the edge: nothing outside this folder (and job submission) imports it."""

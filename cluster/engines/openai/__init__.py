"""Any server that speaks OpenAI's API: requests, scores, and how many at once it takes."""

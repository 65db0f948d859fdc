"""What says how good the samples and the selected answers are, with n and an interval on every number."""

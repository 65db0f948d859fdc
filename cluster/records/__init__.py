"""What a run writes about itself, and reading it: manifests, events, who watches, how fast engines were."""

"""What a user would pick instead, each in its own way of doing the same job. Run by ``throughput.py`` as scripts."""

"""Where it runs: runners, engines, storage and the driver that moves a pipeline through them."""

"""Many simulated studies, compared: units of work, where they run, what came of them."""

"""Settings -> Ray Tune (OptunaSearch, ASHA, resume): one side's trials, run and judged."""

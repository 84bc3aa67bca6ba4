"""Methods that learn from labels beside what the images say of themselves: S4L, SLA, R-Drop, and their baselines."""

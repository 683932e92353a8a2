"""Records made readable: statistics, figures and one page for each run."""

"""Studies: a search over the parameters of a script, its trials, and what they tell."""

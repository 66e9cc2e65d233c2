"""The Ray backend: a gang is a placement group, a replica a supervised program on one of its nodes."""

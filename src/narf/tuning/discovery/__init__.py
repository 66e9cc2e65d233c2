"""Discovery: which parameters a script has, which metrics it will report, and how a value reaches it."""

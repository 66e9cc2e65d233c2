"""`python -m narf.cli` is the `narf` command."""

from narf.cli.main import main

main()

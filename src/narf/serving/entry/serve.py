"""Starts a replica. In a folder of its own: a script's folder is searched for imports first, and `serving` has an `http`."""

import sys

from narf.serving.replica import main

sys.exit(main())

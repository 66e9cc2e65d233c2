"""Write the migration from the newest revision to the tables as the code has them now.

.venv/bin/python scripts/migration.py "endpoints get a budget"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command

from narf.control.database import Database
from narf.control.schema import configuration


def main() -> None:
    message = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'narf.db'}")
        with database.write() as connection:
            config = configuration(connection)
            command.upgrade(config, "head")
            number = len(list((Path(config.get_main_option("script_location") or "") / "versions").glob("[0-9]*.py"))) + 1
            made = command.revision(config, message=message, autogenerate=True, rev_id=f"{number:04d}")
        database.close()
    print(getattr(made, "path", made))


if __name__ == "__main__":
    main()

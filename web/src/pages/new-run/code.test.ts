import { expect, test } from "vitest";
import { mainScript } from "./Code";

test.each([
  [["a.py", "train.py"], "train.py"],
  [["lib/x.py", "run.py", "README.md"], "run.py"],
  [["lib/x.py"], "lib/x.py"],
  [["README.md"], ""],
])("of %j the script is %s", (paths, script) => expect(mainScript(paths)).toBe(script));

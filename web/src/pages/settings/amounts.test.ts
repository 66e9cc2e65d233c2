import { expect, test } from "vitest";
import { amounts, shownAs } from "./amounts";

const set = { gpu: 4, memory: 8 * 1024 ** 3, "gpu:a100": 2 };

test("memory is shown in GiB and what is not set is left out", () => expect(shownAs(set)).toEqual({ gpu: 4, memory: 8 }));

test("what was shown comes back as it was, also what the form does not show", () => expect(amounts(shownAs(set), set)).toEqual(set));

test("an emptied field is no longer set, a zero is", () => expect(amounts({ gpu: "", cpu: 0 }, set)).toEqual({ cpu: 0, "gpu:a100": 2 }));

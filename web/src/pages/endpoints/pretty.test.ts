import { expect, test } from "vitest";
import { compact, pretty } from "./pretty";

test("a list of numbers stays on one line", () => {
  expect(pretty('{"inputs":[[1,2.5,-3e-7],[4,5,6]]}')).toBe('{\n "inputs": [\n  [1, 2.5, -3e-7],\n  [4, 5, 6]\n ]\n}');
});

test("what is no JSON is shown as it came", () => {
  expect(pretty('{"inputs": [NaN')).toBe('{"inputs": [NaN');
  expect(compact("a,b\n1,2")).toBe("a,b\n1,2");
});

test("for a shell it is one line", () => {
  expect(compact('{\n "a": [1, 2]\n}')).toBe('{"a":[1,2]}');
});

import { describe, expect, it } from "vitest";
import { line, words } from "./words";

describe("a command line", () => {
  it.each([
    ["", []],
    ["--lr 0.1  --name x", ["--lr", "0.1", "--name", "x"]],
    [`--name "two words" 'it is' a\\ b`, ["--name", "two words", "it is", "a b"]],
    [`--x="a b" ""`, ["--x=a b", ""]],
  ])("%s", (text, list) => expect(words(text)).toEqual(list));
  it("comes back the same", () => {
    for (const list of [["a b", "it's", "--x=1", "$HOME", "", '"q"'], ["--lr", "1e-3"]]) expect(words(line(list))).toEqual(list);
  });
});

import { describe, expect, it } from "vitest";
import { csv, kindOf } from "./preview";

describe("a preview", () => {
  it.each([["a/b.PNG", "image"], ["x.svg", "text"], ["x.html", "text"], ["m.json", "json"], ["t.csv", "table"], ["MLmodel", "text"], ["model.pt", "other"]])("of %s is %s", (path, kind) => expect(kindOf(path)).toBe(kind));
});

describe("separated values", () => {
  it("keep quotes, commas and line ends inside cells", () => {
    expect(csv('a,"b, c"\r\n"say ""hi""","two\nlines"\n')).toEqual([["a", "b, c"], ['say "hi"', "two\nlines"]]);
    expect(csv("x\ty\n1\t2", "\t")).toEqual([["x", "y"], ["1", "2"]]);
    expect(csv("")).toEqual([]);
    expect(csv("a\nb\nc", ",", 2)).toEqual([["a"], ["b"]]);
  });
});

import { describe, expect, it } from "vitest";
import { Lines, overwritten, spans } from "./ansi";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("ANSI colours", () => {
  it("become spans and nothing else is left of the escapes", () => {
    expect(spans("a \u001b[31mred\u001b[0m \u001b[1;92mbold\u001b[m b").map(({ text, color, bold }) => [text, color, bold])).toEqual([
      ["a ", null, false], ["red", 1, false], [" ", null, false], ["bold", 10, true], [" b", null, false],
    ]);
  });
  it("drops cursor movement, titles, links and bidirectional overrides", () => {
    const text = spans("\u001b[2K\u001b]0;title\u0007x\u001b]8;;javascript:alert(1)\u0007link\u001b]8;;\u0007\u202egnp.exe").map((span) => span.text).join("");
    expect(text).toBe("xlinkgnp.exe");
  });
  it("skips 256 and true colours whole", () => {
    expect(spans("\u001b[38;2;1;31;3mx\u001b[38;5;4my")).toMatchObject([{ text: "x", color: null }, { text: "y", color: 4 }]);
  });
  it("keeps markup as text", () => {
    expect(spans("<script>alert(1)</script>")).toEqual([{ text: "<script>alert(1)</script>", color: null, bold: false, faint: false }]);
  });
});

describe("lines of a stream", () => {
  it("are the same wherever it is cut", () => {
    const whole = bytes("ünïcödé 🎈\nsecond\r\n 10%\r 50%\rdone\nlast");
    for (let cut = 0; cut <= whole.length; cut++) {
      const lines = new Lines();
      lines.add(whole.slice(0, cut));
      lines.add(whole.slice(cut));
      expect(lines.all()).toEqual(["ünïcödé 🎈", "second", "done", "last"]);
    }
  });
  it("a progress bar leaves its last state", () => {
    expect(overwritten("10%\r20%\r")).toBe("20%");
  });
});

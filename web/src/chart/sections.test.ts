import { expect, test } from "vitest";
import { byInterest, sectioned } from "./Charts";

const many = ["lr", "train/loss", "train/acc", "val/loss", "val/acc", "opt/a", "opt/b", "opt/c", "opt/d", "epoch"];

test("a few metrics stand together, losses and scores first", () =>
  expect(sectioned(["lr", "val/acc", "train/loss"])).toEqual([{ name: "Metrics", metrics: ["train/loss", "val/acc", "lr"] }]));

test("many are told apart by what stands before the slash", () =>
  expect(sectioned(many).map(({ name, metrics }) => [name, metrics.length])).toEqual([["Metrics", 2], ["opt", 4], ["train", 2], ["val", 2]]));

test("no metric is lost or shown twice", () => expect(sectioned(many).flatMap(({ metrics }) => metrics).sort()).toEqual([...many].sort()));

test("the order does not depend on how they came", () => expect([...many].sort(byInterest)).toEqual([...many].reverse().sort(byInterest)));

// Which samples are wanted: the same names and values in an address as the server takes (jobs/view/filters.py).
import { bounds } from "./shards.js";

const CODED = ["verdict", "status", "finish", "model", "kept", "trained", "chosen"];
const RANGE = /^(-?[\d.]+(?:e-?\d+)?)?\.\.(-?[\d.]+(?:e-?\d+)?)?$/;

const coded = (name, text) => {
  const values = text.split(",");
  const plain = new Set(values);
  if (plain.has("none")) plain.add("");
  if (name === "trained" && plain.has("no")) plain.add("");
  const pruned = name === "kept" && plain.delete("pruned");
  return { name, values: pruned ? null : [...plain], test: (value) => plain.has(value) || (pruned && value !== "" && value !== "kept") };
};

const ranged = (name, text) => {
  const found = RANGE.exec(text);
  if (!found) throw new Error(`${name}: say a range, such as 100..200, 100.. or ..200`);
  const [low, high] = found.slice(1).map((end) => (end === undefined ? null : Number(end)));
  return { name, low: low ?? -Infinity, high: high ?? Infinity, test: (value) => value !== null && !Number.isNaN(value) && (low === null || value >= low) && (high === null || value <= high) };
};

const equal = (name, value) => ({ name, values: [value], test: (one) => one === value });

/** A filter: the columns that it asks for, whether a row group may have any that fits, and which rows fit. */
export class Filter {
  constructor(query) {
    this.parts = [];
    for (const name of CODED) if (query[name]) this.parts.push(coded(name, query[name]));
    for (const name of ["tokens", "score"]) if (query[name]) this.parts.push(ranged(name, query[name]));
    if (query.answer) this.parts.push(equal("answer", query.answer));
    if (query.problem) this.parts.push(equal("problem_key", query.problem));
    if (query.index) this.parts.push(equal("sample_index", Number(query.index)));
    if (query.episode) this.parts.push(equal("episode", Number(query.episode)));
    this.columns = this.parts.map((part) => part.name);
  }

  /** Whether the statistics let a row group have a row that fits. */
  mayFit(group) {
    return this.parts.every((part) => {
      const known = bounds(group, part.name);
      if (known === undefined) return true;
      if (known.none) return false;
      return part.values ? part.values.some((value) => value >= known.low && value <= known.high) : part.low === undefined || (part.high >= known.low && part.low <= known.high);
    });
  }

  fits(columns, at) {
    return this.parts.every((part) => part.test(columns[part.name][at]));
  }
}

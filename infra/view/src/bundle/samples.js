// The samples of a run in a bundle: pages of a filter, sorted or in order, their texts, one of them whole, a search.
import { Filter } from "./filters.js";
import { Table } from "./shards.js";

const LINE = ["problem_key", "problem_id", "sample_index", "verdict", "status", "finish", "model", "kept", "trained", "chosen", "tokens", "score", "episode"];
const BEGINNING = 300;
const MOST = 1000;
const AROUND = 90;

export class RunSamples {
  constructor(folder, layout) {
    this.run = layout.run;
    const table = (name, kept) => new Table(folder, layout.tables?.[name], kept);
    this.lines = table("lines");
    this.texts = table("texts", 200);
    this.problems = table("problems");
    this.problemTexts = table("problem-texts", 100);
    this.episodes = table("episodes", 100);
  }

  async *matches(filter, { after = -1, columns = [], signal } = {}) {
    const names = [...new Set([...filter.columns, ...columns])];
    for await (const [group, read] of this.lines.scan(names, { first: after + 1, fits: (one) => filter.mayFit(one), signal })) {
      const rows = [];
      if (!filter.parts.length) for (let at = Math.max(0, after + 1 - group.first); at < group.rows; at += 1) rows.push(at);
      else for (let at = Math.max(0, after + 1 - group.first); at < group.rows; at += 1) if (filter.fits(read, at)) rows.push(at);
      yield [group, read, rows];
    }
  }

  async found(query, signal) {
    const filter = new Filter(query);
    const limit = Number(query.limit || 100);
    if (["tokens", "score"].includes(query.sort)) return this.sorted(filter, query, limit, signal);
    const after = query.after === undefined || query.after === "" ? -1 : Number(query.after);
    if (!filter.parts.length) return Array.from({ length: Math.max(0, Math.min(limit, this.lines.rows - after - 1)) }, (_, at) => after + 1 + at);
    const rows = [];
    for await (const [group, , some] of this.matches(filter, { after, signal })) {
      for (const at of some) rows.push(group.first + at);
      if (rows.length >= limit) break;
    }
    return rows.slice(0, limit);
  }

  /** A page of what fits, by a column; of equal ones the first; rows without a value are left out. */
  async sorted(filter, query, limit, signal) {
    const [offset, sign] = [Number(query.offset || 0), query.order === "asc" ? 1 : -1];
    const wanted = offset + limit;
    let best = [];
    let worst = Infinity;
    const cut = () => {
      best.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      best.length = Math.min(best.length, wanted);
      if (best.length === wanted) worst = best.at(-1)[0];
    };
    for await (const [group, read, rows] of this.matches(filter, { columns: [query.sort], signal })) {
      for (const at of rows) {
        const value = read[query.sort][at];
        if (value === null || Number.isNaN(value) || sign * value >= worst) continue;
        best.push([sign * value, group.first + at]);
        if (best.length > 4 * wanted + 1000) cut();
      }
    }
    cut();
    return best.slice(offset).map(([, row]) => row);
  }

  async count(query, signal) {
    const filter = new Filter(query);
    if (!filter.parts.length) return this.lines.rows;
    let count = 0;
    for await (const [, , rows] of this.matches(filter, { signal })) count += rows.length;
    return count;
  }

  async page(query, signal) {
    const rows = await this.found(query, signal);
    if (String(query.texts) !== "1") return { samples: await this.linesOf(rows) };
    const texts = await this.texts.rowsAt(rows, ["completion", "error", "said"]);
    return { texts: Object.fromEntries(texts.map(({ completion, error, said }, at) => [rows[at], { text: (completion ?? "").slice(0, BEGINNING), error, said }])) };
  }

  async linesOf(rows) {
    return (await this.lines.rowsAt(rows, LINE)).map((line, at) => ({ slot: rows[at], ...line }));
  }

  async sample(row) {
    const [line] = row >= 0 && row < this.lines.rows ? await this.lines.rowsAt([row], ["problem", ...LINE]) : [];
    if (!line) throw new Error("there is no such sample");
    const { problem: number, ...shown } = line;
    const [[text], { problem }, episode] = await Promise.all([
      this.texts.rowsAt([row], ["completion", "reasoning", "error", "about"]),
      this.problemText(number),
      line.episode === null ? null : this.episode(number, line.episode),
    ]);
    const { sample, ...about } = JSON.parse(text.about);
    const { completion, reasoning, error } = text;
    return { slot: row, ...shown, problem, sample: { ...sample, completion, reasoning, error }, ...about, episode, command: `gristmill samples ${quoted(this.run)} --problem ${quoted(line.problem_id)} --sample ${line.sample_index}` };
  }

  async problemText(number) {
    const [found] = await this.problemTexts.rowsAt([number], ["about"]);
    return found ? JSON.parse(found.about) : { problem: {}, methods: [] };
  }

  async episode(problem, number) {
    const filter = new Filter({});
    filter.parts = [["problem", problem], ["episode", number]].map(([name, value]) => ({ name, values: [value], test: (one) => one === value }));
    for await (const [group, read] of this.episodes.scan(["problem", "episode"], { fits: (one) => filter.mayFit(one) })) {
      for (let at = 0; at < group.rows; at += 1) if (filter.fits(read, at)) return JSON.parse((await this.episodes.read(group, ["about"])).about[at]);
    }
    return null;
  }

  /** Tell what is found as it is found, until all is searched, enough is found, or nobody wants to know any more. */
  async search(query, on, signal) {
    const pattern = patternOf(query.text || "", query.regex === "1");
    const filter = new Filter(query);
    let [searched, found, told] = [0, 0, Date.now()];
    for await (const [group, { completion, reasoning }] of this.texts.scan(["completion", "reasoning"], { signal })) {
      signal.throwIfAborted();
      const hits = [];
      for (let at = 0; at < group.rows; at += 1) {
        const around = near(pattern, completion[at]) ?? near(pattern, reasoning[at]);
        if (around !== null) hits.push([group.first + at, around]);
      }
      searched += group.rows;
      const kept = (await this.among(filter, hits)).slice(0, MOST - found);
      found += kept.length;
      if (kept.length || Date.now() - told > 300) {
        const lines = await this.linesOf(kept.map(([row]) => row));
        signal.throwIfAborted();
        on({ hits: lines.map((line, at) => ({ ...line, text: kept[at][1] })), searched });
        told = Date.now();
        await new Promise((done) => setTimeout(done)); // the page draws, and hears keys
      }
      if (found >= MOST) break;
    }
    on({ hits: [], searched, done: true, more: found >= MOST });
  }

  async among(filter, hits) {
    if (!filter.parts.length || !hits.length) return hits;
    const rows = await this.lines.rowsAt(hits.map(([row]) => row), filter.columns);
    return hits.filter((_, at) => filter.parts.every((part) => part.test(rows[at][part.name])));
  }
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

const patternOf = (said, regex) => {
  try {
    return new RegExp(regex ? said : said.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu");
  } catch {
    throw new Error(`that isn't a regular expression: ${said}`);
  }
};

/** What is around the first match; null where there is none. */
const near = (pattern, text) => {
  const found = text === null ? null : pattern.exec(text);
  return found ? text.slice(Math.max(0, found.index - AROUND), found.index + found[0].length + AROUND) : null;
};

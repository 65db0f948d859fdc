// Lists of runs and of problems in a bundle: filtered, sorted and counted here, in the shapes that the server gives.

const TREND = 60;
const BINS = 24;
const ANSWERS = 40;
const VERDICTS = ["", "right", "wrong", "unparseable", "timeout", "unknown"];
const WHOLE = ["drawn", "judged", "right", "distinct", "tokens"];
const FIGURES = ["drawn", "judged", "right", "rate", "difficulty", "entropy", "distinct", "top", "tokens", "dollars"];
const SORTS = { started: "started", seconds: "seconds", problems: "problems", samples: "samples", cost: "dollars" };

/** Null comes last, whichever way it is sorted. */
const sorted = (rows, name, order, then) => {
  const sign = order === "asc" ? 1 : -1;
  const compared = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : (a < b ? -1 : 1) * sign);
  return [...rows].sort((a, b) => compared(a[name] ?? null, b[name] ?? null) || (a[then] < b[then] ? -1 : a[then] > b[then] ? 1 : 0));
};

const page = (rows, query) => rows.slice(Number(query.offset || 0), Number(query.offset || 0) + Number(query.limit || 100));

const facet = (rows, name) => {
  const counts = new Map();
  for (const row of rows) if (row[name] !== null) counts.set(row[name], (counts.get(row[name]) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
};

const trend = (rows, pipeline) => {
  const mine = rows.filter((row) => row.pipeline === pipeline).slice(0, TREND).reverse();
  const priced = mine.some((row) => row.dollars !== null);
  return { pipeline, runs: mine.map((row) => row.run_id), accuracy: mine.map((row) => row.accuracy), cost: mine.map((row) => (priced ? row.dollars : row.tokens)), unit: priced ? "dollars" : "tokens" };
};

export const runs = (all, query) => {
  const among = (name) => { const chosen = (query[name] || "").split(",").filter(Boolean); return (row) => !chosen.length || chosen.includes(row[name]); };
  const said = query.text || "";
  const fit = all.filter((row) => ["pipeline", "state", "model"].every((name) => among(name)(row)) && (!query.job || (row.job || "").startsWith(query.job)) && (row.run_id.includes(said) || (row.job || "").includes(said)));
  const facets = Object.fromEntries(["pipeline", "state", "model"].map((name) => [name, facet(all, name)]));
  const inOrder = sorted(fit, SORTS[query.sort] || "started", query.order, "run_id");
  return { total: fit.length, runs: page(inOrder, query), facets, trends: facets.pipeline.slice(0, 12).map(([name]) => trend(all, name)), nights: all.filter((row) => (row.job || "").startsWith("nightly/")) };
};

export const compare = (pairs, names) => {
  const ids = [...new Set(names.split(",").filter(Boolean))];
  const found = ids.slice(1).map((other) => pairs[`${ids[0]},${other}`]);
  if (!found.length || found.includes(undefined)) throw new Error("this bundle has no comparison of these runs: it has those of its newest eight");
  return { runs: ids, differences: found };
};

/** All problems with their figures, read once. */
const table = async (samples) => {
  samples.read ??= (async () => {
    const rows = [];
    const names = ["problem_key", "problem_id", "prompt", "first", "low", "high", "vote", ...FIGURES];
    for await (const [group, columns] of samples.problems.scan(names)) for (let at = 0; at < group.rows; at += 1) rows.push(Object.fromEntries(names.map((name) => [name, columns[name][at]])));
    return rows;
  })();
  return samples.read;
};

const histogram = (values, whole) => {
  const known = values.filter((value) => value !== null);
  if (!known.length) return null;
  let [low, high] = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
  if (low === high) return { edges: [low, high], counts: [known.length] };
  let bins = BINS;
  if (whole) {
    const width = Math.max(1, Math.ceil((high - low + 1) / BINS));
    bins = Math.ceil((high - low + 1) / width);
    high = low + bins * width;
  }
  const counts = new Array(bins).fill(0);
  for (const value of known) counts[Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins))] += 1;
  return { edges: Array.from({ length: bins + 1 }, (_, at) => low + ((high - low) * at) / bins), counts };
};

export const problemsPage = async (samples, query) => {
  let rows = await table(samples);
  if (query.text) {
    const said = query.text.toLowerCase();
    rows = rows.filter((row) => row.problem_id.toLowerCase().includes(said) || row.prompt.toLowerCase().includes(said));
  }
  for (const name of FIGURES) {
    if (!query[name]) continue;
    const [low, high] = query[name].split("..").map((end) => (end === "" ? null : Number(end)));
    rows = rows.filter((row) => row[name] !== null && (low === null || row[name] >= low) && (high === null || row[name] <= high));
  }
  if ([...FIGURES, "problem_id"].includes(query.sort)) rows = sorted(rows, query.sort, query.order, "problem_id");
  const histograms = FIGURES.map((name) => [name, histogram(rows.map((row) => row[name]), WHOLE.includes(name))]);
  return { total: rows.length, problems: page(rows, query), histograms: Object.fromEntries(histograms.filter(([, bins]) => bins)) };
};

export const problem = async (samples, key) => {
  const rows = await table(samples);
  const number = rows.findIndex((row) => row.problem_key === key);
  if (number < 0) throw new Error("there is no such problem");
  const row = rows[number];
  const { problem: text, methods } = await samples.problemText(number);
  const slots = Array.from({ length: row.drawn }, (_, at) => row.first + at);
  const lines = await samples.lines.rowsAt(slots, ["sample_index", "verdict", "tokens", "answer"]);
  const votes = new Map();
  for (const { answer } of lines) votes.set(answer, (votes.get(answer) || 0) + 1);
  const groups = [...votes].sort((a, b) => b[1] - a[1]).slice(0, ANSWERS).map(([answer, count]) => ({ answer, code: answer === null ? 0 : 1, votes: count }));
  const places = new Map(groups.map((group, at) => [group.answer, at]));
  return {
    ...row, ...text, methods, slots, groups,
    indices: lines.map((line) => line.sample_index),
    verdicts: lines.map((line) => VERDICTS.indexOf(line.verdict)),
    tokens: lines.map((line) => line.tokens),
    group: lines.map((line) => places.get(line.answer) ?? -1),
  };
};

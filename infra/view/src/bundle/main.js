// What the page asks of a bundle, answered in the browser: loaded before the page's own script, where there is no server.
import { compare, problem, problemsPage, runs } from "./documents.js";
import { RunSamples } from "./samples.js";
import { json } from "./shards.js";

const listed = json("runs.json");
const opened = new Map();

/** A run's samples, opened once. */
const samplesOf = async (folder) => {
  if (!opened.has(folder)) opened.set(folder, json(`${folder}/layout.json`).then((layout) => new RunSamples(folder, layout)));
  return opened.get(folder);
};

const folderOf = async (id) => {
  const at = (await listed).findIndex((run) => run.run_id === id);
  if (at < 0) throw new Error("this bundle has no such run");
  return `run-${at}`;
};

const OF_RUN = {
  failures: (folder) => json(`${folder}/failures.json`),
  policy: (folder) => json(`${folder}/policy.json`),
  experts: (folder) => json(`${folder}/experts.json`),
  names: (folder) => json(`${folder}/names.json`),
  problems: async (folder, query) => problemsPage(await samplesOf(folder), query),
  problem: async (folder, query) => problem(await samplesOf(folder), query.key),
  count: async (folder, query, signal) => ({ count: await (await samplesOf(folder)).count(query, signal) }),
  samples: async (folder, query, signal) => (await samplesOf(folder)).page(query, signal),
};

async function ask(path, query = {}, { signal } = {}) {
  const [first, id, what, which] = path.split("/").map(decodeURIComponent);
  if (first === "about") return json("about.json");
  if (first === "runs") return runs(await listed, query);
  if (first === "compare") return compare(await json("compare.json"), query.runs || "");
  if (first !== "run") throw new Error("a bundle doesn't have that");
  const folder = await folderOf(id);
  if (!what) return json(`${folder}/run.json`);
  if (what === "sample") return (await samplesOf(folder)).sample(Number(which));
  if (!OF_RUN[what]) throw new Error("a bundle doesn't have that");
  return OF_RUN[what](folder, query, signal);
}

/** Nothing in a bundle is live; what comes bit by bit is a search. */
function hear(path, query, on) {
  const [, id, what] = path.split("/").map(decodeURIComponent);
  const stop = new AbortController();
  const source = { close: () => stop.abort(new Error("closed")) };
  const search = async () => (await samplesOf(await folderOf(id))).search(query, (news) => on(news, source), stop.signal);
  if (what === "search") search().catch((error) => stop.signal.aborted || on({ hits: [], searched: 0, done: true, error: error.message }, source));
  return source.close;
}

globalThis.gristmillBundle = { ask, hear };

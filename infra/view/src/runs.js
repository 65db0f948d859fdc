// The runs of a root: filtered, sorted, chosen to be compared; what pipelines come to over time; nights.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Chart } from "./chart.js";
import { Interval, Note, Sorted, Spark, State, Waiting, compact, count, dollars, duration, go, html, link, moment, percent, useAsked, useEvery, useKeys, useLater } from "./kit.js";

const PAGE = 100;

export const Runs = ({ query }) => {
  const asked = useAsked("runs", { ...query, limit: PAGE }, useEvery(5));
  const [chosen, choose] = useState(new Set());
  const [at, move] = useState(0);
  const search = useRef(null);
  const set = (changes) => go(link(["runs"], { ...query, offset: "", ...changes }), true);
  const typed = useLater((text) => set({ text }));
  const runs = asked.data?.runs || [];
  const flip = (id) => choose((before) => { const after = new Set(before); after.delete(id) || after.add(id); return after; });
  const compare = () => chosen.size > 1 && go(link(["compare"], { runs: [...chosen].join(",") }));
  const step = (by) => move((before) => Math.max(0, Math.min(runs.length - 1, before + by)));
  useKeys({
    j: () => step(1), k: () => step(-1), Enter: () => { if (!runs[at] || document.activeElement?.closest("a,button")) return false; go(link(["run", runs[at].run_id])); },
    x: () => runs[at] && flip(runs[at].run_id), c: compare, "/": () => search.current?.focus(),
  });
  useEffect(() => document.querySelector("tr.at")?.scrollIntoView({ block: "nearest" }), [at]);
  const sort = (name, order) => set({ sort: name, order });
  const offset = Number(query.offset || 0);
  const total = asked.data?.total || 0;
  return html`<main class="wide">
    <div class="head"><h1>Runs</h1><span class="quiet">${asked.data ? count(total) : ""}</span>
      <input ref=${search} type="search" placeholder="a run or a job  ( / )" aria-label="Search runs" defaultValue=${query.text || ""} onInput=${(event) => typed(event.target.value)} />
      <button class="main" disabled=${chosen.size < 2} onClick=${compare}>Compare${chosen.size ? ` ${chosen.size}` : ""}</button>
    </div>
    <${Waiting} asked=${asked} />
    ${asked.data && html`<${Facets} facets=${asked.data.facets} query=${query} set=${set} />`}
    ${asked.data?.trends.some((one) => one.runs.length > 1) && html`<${Trends} trends=${asked.data.trends} set=${set} />`}
    ${asked.data && !runs.length && html`<${Note}>No run fits.<//>`}
    ${runs.length > 0 && html`<div class="scroll"><table class="list">
      <thead><tr><th></th><th>Run</th><th>State</th>
        <${Sorted} name="started" label="Started (UTC)" query=${{ sort: query.sort || "started", order: query.order }} onSort=${sort} right=${false} />
        <${Sorted} name="seconds" label="Took" query=${query} onSort=${sort} /><${Sorted} name="problems" label="Problems" query=${query} onSort=${sort} />
        <${Sorted} name="samples" label="Samples" query=${query} onSort=${sort} /><th class="number">Tokens</th><${Sorted} name="cost" label="Cost" query=${query} onSort=${sort} />
        <th class="number">Right</th><th>Model</th></tr></thead>
      <tbody>${runs.map((run, position) => html`<tr key=${run.run_id} class=${position === at ? "at" : ""}>
        <td><input type="checkbox" aria-label=${`Compare ${run.run_id}`} checked=${chosen.has(run.run_id)} onChange=${() => flip(run.run_id)} /></td>
        <td class="name"><a href=${link(["run", run.run_id])}>${run.run_id}</a>${run.job ? html` <button class="tag" onClick=${() => set({ job: run.job })}>${run.job}</button>` : ""}</td>
        <td><${State} state=${run.state} /></td><td>${moment(run.started)}</td><td class="number">${duration(run.seconds)}</td>
        <td class="number">${count(run.problems)}</td><td class="number">${count(run.samples)}</td><td class="number">${compact(run.tokens)}</td>
        <td class="number">${dollars(run.dollars)}</td><td class="number">${percent(run.accuracy)}</td><td>${run.model || ""}</td></tr>`)}</tbody>
    </table></div>`}
    ${total > PAGE && html`<nav class="pages">
      <button disabled=${offset === 0} onClick=${() => set({ offset: Math.max(0, offset - PAGE) || "" })}>Newer</button>
      <span>${count(offset + 1)} to ${count(Math.min(total, offset + PAGE))} of ${count(total)}</span>
      <button disabled=${offset + PAGE >= total} onClick=${() => set({ offset: offset + PAGE })}>Older</button></nav>`}
    ${asked.data?.nights.length > 0 && html`<${Nights} nights=${asked.data.nights} />`}
  </main>`;
};

const Facets = ({ facets, query, set }) => html`<div class="facets">
  ${["pipeline", "state", "model"].map((name) => facets[name].length > 1 || query[name]
    ? html`<div><span>${name}</span>${facets[name].slice(0, 12).map(([value, number]) => {
        const now = (query[name] || "").split(",").filter(Boolean);
        const on = now.includes(value);
        return html`<button class=${`tag ${on ? "on" : ""}`} aria-pressed=${on} onClick=${() => set({ [name]: (on ? now.filter((one) => one !== value) : [...now, value]).join(",") })}>${value} <small>${count(number)}</small></button>`;
      })}</div>` : "")}
  ${query.job && html`<div><span>job</span><button class="tag on" onClick=${() => set({ job: "" })}>${query.job} ×</button></div>`}
</div>`;

const last = (values) => values.filter((value) => value !== null).at(-1);

const Trends = ({ trends, set }) => html`<div class="trends">${trends.filter((one) => one.runs.length > 1).slice(0, 6).map((one) => html`
  <button class="card trend" onClick=${() => set({ pipeline: one.pipeline })}>
    <b>${one.pipeline}</b>
    <span><${Spark} values=${one.accuracy} label="accuracy over runs" kind="right" /><small>${last(one.accuracy) === undefined ? "accuracy" : `${percent(last(one.accuracy))} right`}</small></span>
    <span><${Spark} values=${one.cost} label="cost over runs" /><small>${one.unit === "dollars" ? dollars(last(one.cost)) : `${compact(last(one.cost) ?? 0)} tokens`}</small></span>
  </button>`)}</div>`;

const DAY = 86400000;

/** The last weeks of each schedule of nights, a square a night. */
const Nights = ({ nights }) => {
  const named = new Map();
  for (const night of nights) {
    const [, name, day] = night.job.split("/");
    if (!/^\d{4}-\d\d-\d\d$/.test(day || "")) continue;
    if (!named.has(name)) named.set(name, new Map());
    if (!named.get(name).has(day)) named.get(name).set(day, night);
  }
  return html`<section><h2>Nights</h2>${[...named].map(([name, days]) => {
    const end = Date.parse([...days.keys()].sort().at(-1));
    const first = end - ((new Date(end).getUTCDay() + 6) % 7) * DAY - 17 * 7 * DAY;
    const squares = Array.from({ length: Math.round((end - first) / DAY) + 1 }, (_, at) => new Date(first + at * DAY).toISOString().slice(0, 10));
    return html`<div class="nights"><h3>${name}</h3><div class="calendar">${squares.map((day) => {
      const night = days.get(day);
      const said = night ? `${day}: ${night.state}, ${count(night.samples)} samples` : day;
      return night ? html`<a class=${`night ${night.state.replace(/\s/g, "-")}`} href=${link(["run", night.run_id])} title=${said} aria-label=${said}></a>` : html`<i class="night" title=${said}></i>`;
    })}</div></div>`;
  })}</section>`;
};

export const Compare = ({ query }) => {
  const asked = useAsked("compare", { runs: query.runs });
  const { data } = asked;
  const curves = useMemo(() => (data ? overlaid(data) : null), [data]);
  return html`<main class="wide"><h1>Compared</h1><${Waiting} asked=${asked} />
    ${curves && curves.data[0].length > 1 && html`<div class="charts"><${Chart} title="Coverage at k samples" data=${curves.data} log share formatX=${(x) => (Number.isInteger(Math.log2(x)) ? String(x) : "")} series=${curves.series} /></div>`}
    ${data && data.differences.map((one, at) => html`<section class="card compared">
      <p class="pair"><a href=${link(["run", data.runs[0]])}>${data.runs[0]}</a> <span class="quiet">and</span> <a href=${link(["run", data.runs[at + 1]])}>${data.runs[at + 1]}</a></p>
      <p class="aside">${count(one.problems.both)} problems in both, ${count(one.problems.only_first)} in the first alone, ${count(one.problems.only_second)} in the second alone</p>
      <${Coverage} rows=${one.coverage} />
      <${Settings} rows=${[...one.settings, ...one.versions]} />
    </section>`)}
  </main>`;
};

const COLOURS = ["right", "wrong", "s0", "s1", "s2", "s3", "unjudged", "ink"];

/** The curves of all runs over the k that some pair of them has. */
const overlaid = (data) => {
  const tables = data.runs.map(() => new Map());
  data.differences.forEach((one, at) => one.coverage.forEach((row) => { tables[0].set(row.k, row.coverage); tables[at + 1].set(row.k, row.coverage_second); }));
  const k = [...new Set(tables.flatMap((table) => [...table.keys()]))].sort((a, b) => a - b);
  return { data: [k, ...tables.map((table) => k.map((one) => table.get(one) ?? null))], series: data.runs.map((label, at) => ({ label, colour: COLOURS[at], points: true })) };
};

const said = (value) => (value === null || value === undefined ? "—" : typeof value === "object" ? JSON.stringify(value) : String(value));

const Settings = ({ rows }) => rows.length === 0 ? html`<${Note}>The same settings and versions.<//>` : html`<div class="scroll"><table class="list settings">
  <thead><tr><th>Setting</th><th>First</th><th>Second</th></tr></thead>
  <tbody>${rows.map((row) => html`<tr><td><code>${row.key}</code></td><td>${said(row.values[0])}</td><td>${said(row.values[1])}</td></tr>`)}</tbody></table></div>`;

const Coverage = ({ rows }) => rows.length === 0 ? html`<${Note}>Their coverage can't be compared: one of them has no pass@k yet.<//>` : html`<div class="scroll"><table class="list">
  <thead><tr><th>k</th><th class="number">First</th><th></th><th class="number">Second</th><th></th><th class="number">Difference, problem by problem</th></tr></thead>
  <tbody>${rows.map((row) => html`<tr><td>pass@${row.k}</td><td class="number">${percent(row.coverage)}</td><td><${Interval} value=${row.coverage} low=${row.low} high=${row.high} /></td>
    <td class="number">${percent(row.coverage_second)}</td><td><${Interval} value=${row.coverage_second} low=${row.low_second} high=${row.high_second} /></td>
    <td class="number">${row.paired ? html`<b class=${row.difference_low > 0 ? "right" : row.difference_high < 0 ? "wrong" : ""}>${signed(row.difference)}</b> [${signed(row.difference_low)}, ${signed(row.difference_high)}] of ${count(row.paired)}` : ""}</td></tr>`)}</tbody></table></div>`;

const signed = (value) => (value === null ? "" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(100 * value).toFixed(1)}`);

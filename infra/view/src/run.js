// A run while it goes on: its stages as datasets, its figures with their bands, speed, money, what it said.
import { useEffect, useMemo, useState } from "preact/hooks";
import { bundled, hear, mayAct, of } from "./api.js";
import { Chart } from "./chart.js";
import { Control, Orders } from "./control.js";
import { Experts } from "./experts.js";
import { Copy, Meter, Note, State, compact, count, dollars, duration, html, link, moment, number, percent, useAsked } from "./kit.js";

export const useLive = (run) => {
  const [live, set] = useState({});
  useEffect(() => {
    set({});
    return hear(`${of(run)}/live`, {}, (data) => set({ data }), () => set((before) => ({ ...before, lost: true })));
  }, [run]);
  return live;
};

export const Tabs = ({ run, at }) => html`<nav class="tabs">
  ${[["", "Overview"], ["problems", "Problems"], ["samples", "Samples"], ...(mayAct() ? [["annotate", "Annotate"]] : [])].map(([path, label]) => html`<a class=${at === path ? "on" : ""} aria-current=${at === path ? "page" : null} href=${link(path ? ["run", run, path] : ["run", run])}>${label}</a>`)}</nav>`;

export const Run = ({ run }) => {
  const about = useAsked(of(run));
  const { data: news, lost } = useLive(run);
  const data = news || about.data;
  if (about.error) return html`<main class="wide"><${Note} kind="bad">${about.error}<//></main>`;
  if (!data) return html`<main class="wide"><p class="quiet">…</p></main>`;
  return html`<main class="wide">
    <div class="head"><h1>${data.run_id}</h1><${State} state=${data.paused && data.state === "running" ? "paused" : data.state} />${lost && data.state === "running" ? html`<span class="quiet">the server doesn't answer; trying again</span>` : ""}</div>
    <p class="meta"><span>${data.pipeline}</span><span>${count(data.problems)} problems</span><span>began ${moment(data.started)} UTC</span>
      ${data.finished ? html`<span>took ${duration((Date.parse(data.finished) - Date.parse(data.started)) / 1000)}</span>` : ""}${data.job ? html`<span>${data.job}</span>` : ""}${data.account ? html`<span>account ${data.account}</span>` : ""}</p>
    <${Tabs} run=${run} at="" />
    ${data.error && html`<${Note} kind="bad">${data.error}<//>`}${data.trouble && html`<${Note} kind="bad">${data.trouble}<//>`}
    ${bundled && data.state === "running" && html`<${Note}>A bundle doesn't follow a run: so it was when the bundle was written.<//>`}
    ${data.waits_for && html`<${Note} kind="wait">Waits for: ${data.waits_for}<//>`}
    ${!data.ready && !data.trouble && html`<div class="making"><p>The index of the samples is being made: ${count(data.progress.done)} of ${count(data.progress.total)} rows</p><${Meter} share=${data.progress.total ? data.progress.done / data.progress.total : 0} /></div>`}
    ${mayAct() && html`<${Control} run=${run} data=${data} />`}
    <${Tiles} data=${data} />
    <section><h2>Stages</h2><${Stages} data=${data} run=${run} /></section>
    <${Curves} data=${data} />
    <${Replicas} stages=${data.stages} />
    ${data.spending.length > 0 && html`<section><h2>Money</h2><${Money} data=${data} /></section>`}
    <${Policy} run=${run} stages=${data.stages} running=${data.state === "running"} />
    <${Orders} orders=${data.orders || []} />
    <${Experts} run=${run} again=${data.state === "running" ? 0 : 1} />
    <${Failures} run=${run} stages=${data.stages} />
    ${(data.notes.length > 0 || data.remarks.length > 0 || data.told.length > 0) && html`<section><h2>What it said</h2><ul class="told">
      ${[...data.remarks, ...data.notes].map((line) => html`<li>${line}</li>`)}
      ${[...data.told].reverse().map((one) => html`<li><time>${moment(one.time).slice(11) || ""}</time><span>${one.message || [one.event, one.stage, one.rows === null ? "" : `${count(one.rows)} rows`].filter(Boolean).join(" · ")}</span></li>`)}</ul></section>`}
    ${about.data && html`<section><details><summary>Settings</summary><p>${data.command ? html`<code>${data.command}</code> <${Copy} text=${data.command} label="copy" />` : ""}</p><pre class="text">${JSON.stringify(about.data.config, null, 2)}</pre></details></section>`}
  </main>`;
};

const Tile = ({ label, value, aside }) => html`<div class="tile"><dt>${label}</dt><dd class="value">${value}</dd><dd>${aside}</dd></div>`;
const between = (one) => (one.low === undefined ? "" : `${percent(one.low)} to ${percent(one.high)}`);

const Tiles = ({ data }) => {
  const { figures, totals } = data;
  const first = figures.coverage?.[0];
  const last = figures.coverage?.at(-1);
  const speed = data.stages.find((stage) => stage.name === data.sampled)?.speed;
  return html`<dl class="tiles">
    <${Tile} label="Samples" value=${compact(totals.drawn ?? 0)} aside=${speed ? `${number(speed)} a second` : totals.drawn ? `${number(totals.drawn / Math.max(1, data.problems))} a problem` : ""} />
    ${totals.judged > 0 && html`<${Tile} label="Right" value=${percent(totals.right / totals.judged)} aside=${`${count(totals.right)} of ${count(totals.judged)} judged`} />`}
    ${first && html`<${Tile} label="pass@1" value=${percent(first.coverage)} aside=${between(first)} />`}
    ${last && last.k > 1 && html`<${Tile} label=${`pass@${last.k}`} value=${percent(last.coverage)} aside=${between(last)} />`}
    ${figures.vote && html`<${Tile} label="Most frequent answer" value=${percent(figures.vote.accuracy)} aside=${`${between(figures.vote)} right`} />`}
    ${figures.judged_problems > 0 && html`<${Tile} label="Solved" value=${count(figures.solved)} aside=${`of ${count(figures.judged_problems)} problems, at least once`} />`}
    ${totals.tokens > 0 && html`<${Tile} label="Tokens" value=${compact(totals.tokens)} aside=${`written; ${compact(totals.prompt_tokens)} read`} />`}
  </dl>`;
};

const Stages = ({ data, run }) => html`<div class="stages">${data.stages.map((stage) => {
  const planned = Math.max(1, stage.planned);
  const shown = stage.dataset === "samples" ? link(["run", run, "samples"]) : stage.dataset === "problems" ? link(["run", run, "problems"]) : stage.dataset === "verdicts" ? link(["run", run, "samples"], { verdict: "right,wrong" }) : stage.dataset === "sft" ? link(["run", run, "samples"], { trained: "yes" }) : stage.dataset === "paths" ? link(["run", run, "samples"], { kept: "kept" }) : null;
  const facts = [
    stage.waits_for.length ? `waits for ${stage.waits_for.join(", ")}` : "", stage.reused ? `${count(stage.reused)} re-used` : "", stage.queued ? `${count(stage.queued)} under way` : "", stage.failed ? `${count(stage.failed)} failed` : "", stage.truncated ? `${count(stage.truncated)} cut at max_tokens` : "",
    stage.quarantined ? `${count(stage.quarantined)} left out` : "", stage.skipped ? `${count(stage.skipped)} skipped` : "", stage.speed ? `${number(stage.speed)}/s` : "", stage.seconds ? duration(stage.seconds) : "",
    stage.tokens ? `${compact(stage.tokens)} tokens` : "", stage.dollars !== null ? dollars(stage.dollars) : "", stage.model || "", stage.policy ? `policy ${stage.policy}` : "",
  ].filter(Boolean);
  return html`<div class=${`stage ${stage.complete ? "complete" : stage.there ? "some" : "none"}`} key=${stage.name}>
    <div><b>${shown ? html`<a href=${shown}>${stage.name}</a>` : stage.name}</b> <span class="quiet">${stage.dataset}</span></div>
    <div class="quiet from">${stage.inputs.length ? `from ${stage.inputs.join(", ")}` : stage.operator}</div>
    <${Meter} share=${stage.there / planned} second=${stage.reused / planned} />
    <div class="number">${count(stage.there)} <span class="quiet">of ${stage.policy && !stage.complete ? "at most " : ""}${count(stage.planned)}</span></div>
    <div class="facts">${facts.join(" · ")}</div></div>`;
})}</div>`;

const Curves = ({ data }) => {
  const { figures, growth, history } = data;
  const coverage = useMemo(() => {
    const rows = figures.coverage || [];
    return [rows.map((row) => row.k), rows.map((row) => row.coverage), rows.map((row) => row.high), rows.map((row) => row.low)];
  }, [data.version]);
  const grown = useMemo(() => {
    const rows = growth.filter((row, at) => at === 0 || row.drawn > growth[at - 1].drawn);
    const of = (name, at) => rows.map((row) => row[name][at] ?? null);
    return [rows.map((row) => row.drawn), of("one", 0), of("one", 2), of("one", 1), of("vote", 0), of("vote", 2), of("vote", 1)];
  }, [data.version]);
  const stages = Object.keys(history).slice(0, 3);
  const over = useMemo(() => {
    const times = [...new Set(stages.flatMap((name) => history[name][0]))].sort((a, b) => a - b);
    return [times, ...stages.map((name) => {
      const [at, rows] = history[name];
      let position = -1;
      return times.map((time) => { while (position + 1 < at.length && at[position + 1] <= time) position += 1; return position < 0 ? null : rows[position]; });
    })];
  }, [data.version]);
  const colours = ["right", "s0", "s1"];
  const any = coverage[0].length > 1 || over[0].length > 1 || grown[0].length > 1;
  return any && html`<section><h2>Curves</h2><div class="charts">
    ${over[0].length > 1 && html`<${Chart} title="Rows committed by this run (UTC)" data=${over} time series=${stages.map((label, at) => ({ label, colour: colours[at] }))} />`}
    ${coverage[0].length > 1 && html`<${Chart} title="Coverage at k samples" data=${coverage} log share formatX=${(x) => (Number.isInteger(Math.log2(x)) ? String(x) : "")}
      series=${[{ label: "pass@k, 95% for problems like these", colour: "right", band: [2, 3], points: true }, { colour: "right", edge: true, label: "high" }, { colour: "right", edge: true, label: "low" }]} />`}
    ${grown[0].length > 1 && html`<${Chart} title="Accuracy as samples come" data=${grown} share formatX=${compact}
      series=${[{ label: "pass@1", colour: "right", band: [2, 3] }, { colour: "right", edge: true, label: "high" }, { colour: "right", edge: true, label: "low" }, { label: "most frequent answer", colour: "s0", band: [5, 6] }, { colour: "s0", edge: true, label: "high" }, { colour: "s0", edge: true, label: "low" }]} note=${bundled ? "" : "Since the view was opened."} />`}
  </div>${figures.independent === false ? html`<p class="aside">A policy or a strategy decides what is drawn, so coverage can't be told from counts while it goes on; the run's own pass@k stage knows the rule.</p>` : ""}</section>`;
};

const Replicas = ({ stages }) => {
  const rows = stages.flatMap((stage) => [
    ...stage.replicas.map((one) => ({ stage: stage.name, role: "", ...one })),
    ...Object.entries(stage.roles).flatMap(([role, pool]) => (pool.replicas || []).map((one) => ({ stage: stage.name, role, ...one }))),
  ]);
  const named = rows.some((row) => row.role);
  const roles = stages.flatMap((stage) => Object.entries(stage.roles).map(([role, one]) => ({ stage: stage.name, role, ...one })));
  return (rows.length > 0 || roles.length > 0) && html`<section><h2>Engines</h2>
    ${rows.length > 0 && html`<div class="scroll"><table class="list"><thead><tr><th>Stage</th>${named ? html`<th>Role</th>` : ""}<th>Replica</th>${bundled ? "" : html`<th>Node</th>`}<th class="number">Tokens a second</th><th class="number">Busy</th><th></th><th class="number">Requests</th><th class="number">Started again</th></tr></thead>
      <tbody>${rows.map((row) => html`<tr><td>${row.stage}</td>${named ? html`<td>${row.role}</td>` : ""}<td>${row.number}</td>${bundled ? "" : html`<td>${row.node || "lost"}</td>`}<td class="number">${count(Math.round(row.tokens_per_second))}</td><td class="number">${percent(row.busy_share)}</td><td><${Meter} share=${row.busy_share} /></td><td class="number">${count(row.requests)}</td><td class="number">${row.deaths || ""}</td></tr>`)}</tbody></table></div>`}
    ${roles.length > 0 && html`<div class="scroll"><table class="list"><thead><tr><th>Stage</th><th>Role</th><th>Model</th><th class="number">Calls</th><th class="number">Scored</th><th class="number">Tokens read</th><th class="number">Written</th></tr></thead>
      <tbody>${roles.map((row) => html`<tr><td>${row.stage}</td><td>${row.role}</td><td>${row.engine?.model || ""}</td><td class="number">${count(row.calls)}</td><td class="number">${count(row.passes)}</td><td class="number">${compact(row.prompt_tokens)}</td><td class="number">${compact(row.completion_tokens)}</td></tr>`)}</tbody></table></div>`}
  </section>`;
};

const amount = (unit, value) => (unit === "dollars" ? dollars(value) : compact(value));

const Money = ({ data }) => html`<div class="money">${data.spending.map((one) => html`<div>
  <b>${one.unit.replace("_", " ")}</b><${Meter} share=${one.spent / one.cap} kind=${one.spent > 0.9 * one.cap ? "full" : ""} /><span class="number">${amount(one.unit, one.spent)} <span class="quiet">of ${amount(one.unit, one.cap)}</span></span>
  <span class="quiet">${one.forecast === null ? "" : one.forecast >= one.cap ? "ends at the cap, if the rest is like this" : `ends at ${amount(one.unit, one.forecast)}, if the rest is like this`}${one.orphaned ? ` · ${compact(one.orphaned)} lost` : ""}</span></div>`)}
  ${data.stages.filter((stage) => stage.tokens).map((stage) => html`<div class="of"><span>${stage.name}</span><span></span><span class="number">${stage.dollars !== null ? dollars(stage.dollars) : ""}</span><span class="quiet">${compact(stage.tokens)} tokens in this run</span></div>`)}</div>`;

const Policy = ({ run, stages, running }) => {
  const wanted = stages.some((stage) => stage.policy);
  const [again, set] = useState(0);
  useEffect(() => {
    if (!wanted || !running) return undefined;
    const timer = setInterval(() => set((before) => before + 1), 15000);
    return () => clearInterval(timer);
  }, [wanted, running]);
  const { data } = useAsked(wanted ? `${of(run)}/policy` : null, {}, again);
  const price = useMemo(() => (data ? [data.sequence, data.shadow_price] : null), [data]);
  const who = useMemo(() => (data ? [data.drawn.map((_, at) => at + 1), data.drawn] : null), [data]);
  return data && html`<section><h2>Policy <span class="quiet">${data.policy}, ${count(data.decisions)} decisions</span></h2><div class="charts">
    ${data.shadow_price.some((one) => one !== null) && data.sequence.length > 1 && html`<${Chart} title="Shadow price" data=${price} formatX=${compact} series=${[{ label: "of one more unit of budget, by decision", colour: "s0" }]} />`}
    ${data.drawn.length > 1 && html`<${Chart} title="Who gets samples" data=${who} formatX=${compact} series=${[{ label: "samples, problems by how many they got", colour: "right" }]} />`}</div></section>`;
};

const Failures = ({ run, stages }) => {
  const some = stages.reduce((sum, stage) => sum + (stage.dataset === "samples" ? stage.failed : 0), 0);
  const reused = stages.some((stage) => stage.dataset === "samples" && stage.reused);
  const { data } = useAsked(some || reused ? `${of(run)}/failures` : null, {}, Math.ceil(Math.log2(some + 1)));
  return data?.length > 0 && html`<section><h2>Refused</h2><div class="scroll"><table class="list"><tbody>${data.map((one) => html`<tr><td class="number">${count(one.samples)}</td><td><pre class="text">${one.error}</pre></td></tr>`)}</tbody></table></div>
    <p><a href=${link(["run", run, "samples"], { status: "error" })}>Look at them</a></p></section>`;
};

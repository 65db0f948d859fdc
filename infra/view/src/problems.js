// The problems of a run: a table with histograms that filter; one problem with its samples as dots.
import { useEffect, useRef, useState } from "preact/hooks";
import { of } from "./api.js";
import { Histogram, Interval, Note, Sorted, Waiting, compact, count, dollars, go, html, link, number, percent, useAsked, useKeys, useLater } from "./kit.js";
import { Tabs } from "./run.js";
import { Text } from "./text.js";

const PAGE = 100;
const SHOWN = [["rate", "Pass rate", percent], ["entropy", "Entropy of answers, bits", number], ["distinct", "Distinct answers", count], ["drawn", "Samples", count], ["tokens", "Tokens", compact], ["dollars", "Dollars", dollars], ["difficulty", "Difficulty", number]];

export const Problems = ({ run, query }) => {
  const asked = useAsked(`${of(run)}/problems`, { ...query, limit: PAGE });
  const [at, move] = useState(0);
  const search = useRef(null);
  const set = (changes) => { move(0); go(link(["run", run, "problems"], { ...query, offset: "", ...changes }), true); };
  const typed = useLater((text) => set({ text }));
  const rows = asked.data?.problems || [];
  const step = (by) => move((before) => Math.max(0, Math.min(rows.length - 1, before + by)));
  useKeys({ j: () => step(1), k: () => step(-1), Enter: () => { if (!rows[at] || document.activeElement?.closest("a,button")) return false; go(link(["run", run, "problem", rows[at].problem_key])); }, "/": () => search.current?.focus() });
  useEffect(() => document.querySelector("tr.at")?.scrollIntoView({ block: "nearest" }), [at]);
  const sort = (name, order) => set({ sort: name, order });
  const offset = Number(query.offset || 0);
  const bins = asked.data?.histograms || {};
  const priced = rows.some((row) => row.dollars !== null);
  return html`<main class="wide"><div class="head"><h1>Problems</h1><span class="quiet">${asked.data ? count(asked.data.total) : ""}</span>
      <input ref=${search} type="search" placeholder="in ids and prompts  ( / )" aria-label="Search problems" defaultValue=${query.text || ""} onInput=${(event) => typed(event.target.value)} /></div>
    <p class="meta"><a href=${link(["run", run])}>${run}</a></p><${Tabs} run=${run} at="problems" /><${Waiting} asked=${asked} />
    ${asked.data && html`<div class="histograms">${SHOWN.filter(([name]) => bins[name] || query[name]).map(([name, title, format]) => bins[name] ? html`<${Histogram} key=${name} title=${title} bins=${bins[name]} format=${format} chosen=${query[name] || ""} onChoose=${(value) => set({ [name]: value })} />` : html`<button class="tag on" onClick=${() => set({ [name]: "" })}>${title} ×</button>`)}</div>`}
    ${asked.data && !rows.length && html`<${Note}>No problem fits.<//>`}
    ${rows.length > 0 && html`<div class="scroll"><table class="list problems"><thead><tr>
      <${Sorted} name="problem_id" label="Problem" query=${query} onSort=${sort} right=${false} /><th>Prompt</th><${Sorted} name="rate" label="Pass rate" query=${query} onSort=${sort} /><th></th>
      <${Sorted} name="drawn" label="Samples" query=${query} onSort=${sort} /><${Sorted} name="distinct" label="Answers" query=${query} onSort=${sort} /><${Sorted} name="entropy" label="Entropy" query=${query} onSort=${sort} />
      <th>Vote</th><${Sorted} name="tokens" label="Tokens" query=${query} onSort=${sort} />${priced ? html`<${Sorted} name="dollars" label="Cost" query=${query} onSort=${sort} />` : ""}<${Sorted} name="difficulty" label="Difficulty" query=${query} onSort=${sort} /></tr></thead>
      <tbody>${rows.map((row, position) => html`<tr key=${row.problem_key} class=${position === at ? "at" : ""}>
        <td class="name"><a href=${link(["run", run, "problem", row.problem_key])}>${row.problem_id}</a></td><td class="prompt">${row.prompt}</td>
        <td class="number">${percent(row.rate)}</td><td><${Interval} value=${row.rate} low=${row.low} high=${row.high} /></td><td class="number">${count(row.drawn)}</td><td class="number">${count(row.distinct)}</td><td class="number">${number(row.entropy)}</td>
        <td>${row.vote === null ? "" : row.vote ? html`<span class="right">right</span>` : html`<span class="wrong">wrong</span>`}</td><td class="number">${compact(row.tokens)}</td>${priced ? html`<td class="number">${dollars(row.dollars)}</td>` : ""}<td class="number">${number(row.difficulty)}</td></tr>`)}</tbody></table></div>`}
    ${asked.data?.total > PAGE && html`<nav class="pages"><button disabled=${offset === 0} onClick=${() => set({ offset: Math.max(0, offset - PAGE) || "" })}>Before</button><span>${count(offset + 1)} to ${count(Math.min(asked.data.total, offset + PAGE))} of ${count(asked.data.total)}</span><button disabled=${offset + PAGE >= asked.data.total} onClick=${() => set({ offset: offset + PAGE })}>Next</button></nav>`}
  </main>`;
};

const VERDICTS = ["none", "right", "wrong", "unparseable", "timeout", "unknown"];
const DOTS = 4000;

export const Problem = ({ run, of: key, query }) => {
  const asked = useAsked(`${of(run)}/problem`, { key });
  const raw = query.raw === "1";
  useKeys({ v: () => go(link(["run", run, "problem", key], { raw: raw ? "" : "1" }), true) });
  const { data } = asked;
  if (!data) return html`<main class="wide"><${Waiting} asked=${asked} /></main>`;
  const groups = [...data.groups.map((group, at) => ({ ...group, at })), { answer: null, at: -1, rest: true }];
  const filtered = (changes) => link(["run", run, "samples"], { problem: key, ...changes });
  return html`<main class="wide"><div class="head"><h1>${data.problem_id}</h1><a class="tag" href=${filtered({})}>its ${count(data.slots.length)} samples</a></div>
    <p class="meta"><a href=${link(["run", run, "problems"])}>${run}</a><span>${percent(data.rate)} of ${count(data.judged)} judged are right</span>${data.entropy === null ? "" : html`<span>entropy ${number(data.entropy)} bits</span>`}</p>
    <div class="card prompt"><${Text} text=${data.prompt || ""} raw=${raw} /></div>
    ${data.expected !== null && html`<p class="expected">Expected answer: <code>${data.expected}</code></p>`}
    ${data.methods.length > 0 && html`<section><h2>Selected</h2><div class="scroll"><table class="list"><thead><tr><th>Method</th><th>Answer</th><th class="number">Confidence</th><th>Runner-up</th><th class="number">Samples</th><th></th></tr></thead>
      <tbody>${data.methods.map((one) => html`<tr><td>${one.method}</td><td><code>${one.answer ?? "none"}</code></td><td class="number">${percent(one.confidence)}</td><td>${one.runner_up === null ? "" : html`<code>${one.runner_up}</code> ${percent(one.runner_up_confidence)}`}</td><td class="number">${count(one.n_samples)}</td><td>${one.is_correct === null ? "" : one.is_correct ? html`<span class="right">right</span>` : html`<span class="wrong">wrong</span>`}</td></tr>`)}</tbody></table></div></section>`}
    <section><h2>Answers</h2><div class="groups">${groups.map((group) => {
      const mine = data.group.map((one, at) => (one === group.at ? at : -1)).filter((at) => at >= 0);
      if (!mine.length) return null;
      const name = group.rest ? "other answers" : group.code === 0 ? "no answer" : (group.answer ?? "an answer whose text is gone");
      return html`<div class="group"><div class="answer"><code>${name}</code><span class="quiet">${count(mine.length)}</span></div>
        <div class="dots">${mine.slice(0, DOTS).map((at) => html`<a class=${`dot ${VERDICTS[data.verdicts[at]]}`} href=${filtered({ at: data.slots[at] })} title=${`sample ${data.indices[at]}: ${VERDICTS[data.verdicts[at]]}, ${count(data.tokens[at])} tokens`}></a>`)}${mine.length > DOTS ? html`<span class="quiet">and ${count(mine.length - DOTS)} more</span>` : ""}</div></div>`;
    })}</div></section></main>`;
};

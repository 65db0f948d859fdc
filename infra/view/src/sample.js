// One sample with all that is known of it; two of them side by side.
import { diffLines, diffWordsWithSpace } from "diff";
import { useMemo } from "preact/hooks";
import { Annotate } from "./annotate.js";
import { of } from "./api.js";
import { Copy, Mark, Note, Waiting, count, html, link, number, useAsked } from "./kit.js";
import { Text } from "./text.js";

export const Sample = ({ run, slot, query, to, marked, onMark, table, asking }) => {
  const asked = useAsked(`${of(run)}/sample/${slot}`);
  const { data } = asked;
  if (!data || asked.error) return html`<${Waiting} asked=${{ ...asked, data: asked.error ? null : asked.data }} />`;
  const raw = query.raw === "1";
  const { sample, problem } = data;
  return html`<article class="sample">
    <header><a class="back" href=${to({ at: "" })}>← list</a><h2><${Mark} verdict=${data.verdict} />${table ? problem.problem_id : html`<a href=${link(["run", run, "problem", data.problem_key])}>${problem.problem_id}</a>`}${data.sample_index === undefined ? "" : html` <span class="quiet">#${data.sample_index}</span>`}</h2>
      <div class="acts"><a class="plain" href=${to({ raw: raw ? "" : "1" })}>${raw ? "rendered" : "raw"} <kbd>v</kbd></a>
        <button class="plain" onClick=${onMark}>${marked === null ? "compare" : marked === data.slot ? "don't compare" : "compare with the marked one"} <kbd>d</kbd></button>
        <${Copy} text=${() => JSON.stringify(data, null, 2)} label="copy JSON" />${data.command ? html`<${Copy} text=${data.command} label="copy command" />` : ""}</div></header>
    <${Facts} data=${data} />
    ${!table && !asking && html`<${Annotate} run=${run} data=${data} />`}
    ${problem.prompt !== null && problem.prompt !== undefined && html`<details class="card" open=${query.open === "1" || problem.prompt.length < 1200}><summary>Problem</summary>${problem.messages?.length ? problem.messages.map((turn) => html`<${Turn} turn=${turn} raw=${raw} />`) : html`<${Text} text=${problem.prompt} raw=${raw} />`}${problem.expected ? html`<p class="expected">Expected answer: <code>${problem.expected}</code></p>` : ""}</details>`}
    ${sample.error && html`<${Note} kind="bad">${sample.error}<//>`}
    ${sample.reasoning && html`<details class="card reasoning" open=${query.open === "1"}><summary>Reasoning <span class="quiet">${count(sample.reasoning.length)} characters</span> <kbd>t</kbd></summary><${Text} text=${sample.reasoning} raw=${raw} /></details>`}
    ${sample.turns?.length ? sample.turns.map((turn) => html`<${Turn} turn=${turn} raw=${raw} />`) : html`<div class="card completion"><${Text} text=${sample.completion} raw=${raw} /></div>`}
    ${sample.tool_calls && html`<${Calls} text=${sample.tool_calls} />`}
    ${data.tokens_of && html`<${Tokens} tokens=${data.tokens_of} />`}
    <${Verdicts} data=${data} />
    ${data.episode && html`<${Episode} episode=${data.episode} />`}
    <${Lineage} run=${run} data=${data} table=${table} />
    ${data.columns && html`<section><h3>Columns</h3><dl class="pairs">${Object.entries(data.columns).map(([name, value]) => html`<dt>${name}</dt><dd>${said(value)}</dd>`)}</dl></section>`}
  </article>`;
};

const said = (value) => (value === null || value === undefined ? "—" : typeof value === "object" ? JSON.stringify(value) : String(value));

const Facts = ({ data }) => {
  const { sample } = data;
  const facts = [
    ["verdict", data.verdict || "none"], ["tokens", data.tokens ? `${count(data.tokens)} written, ${count(sample.prompt_tokens ?? 0)} read` : ""], ["ended by", data.finish], ["score", number(data.score)], ["model", data.model],
    ["mean log-prob", number(sample.mean_logprob)], ["lowest confidence", number(sample.lowest_group_confidence)], ["seed", sample.seed === undefined ? "" : String(sample.seed)], ["drawn by", sample.run_id],
    ["pruning", data.kept], ["training set", data.trained === "yes" ? "in it" : ""], ["episode", sample.episode === null || sample.episode === undefined ? "" : String(sample.episode)],
  ].filter(([, value]) => value);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
};

const SURE = [-0.1, -1, -3]; // log-probs from which on a token is less and less sure

/** Tokens with their log-probs, where they were kept: the warmer, the less likely. */
const Tokens = ({ tokens }) => html`<details class="card"><summary>Tokens with log-probs <span class="quiet">${count(tokens.length)}, sum ${number(tokens.reduce((sum, [, value]) => sum + (value ?? 0), 0))}</span></summary>
  <p class="tokens">${tokens.map(([text, value]) => html`<span class=${`t${value === null ? 0 : 1 + SURE.filter((end) => value < end).length}`} title=${value === null ? "not known" : `${value.toFixed(3)}: ${(100 * Math.exp(value)).toFixed(1)}%`}>${text}</span>`)}</p></details>`;

const Turn = ({ turn, raw }) => html`<div class=${`card turn ${turn.role}`}><h4>${turn.role}${turn.name ? ` · ${turn.name}` : ""}</h4>${turn.reasoning_content ? html`<details><summary>Reasoning</summary><${Text} text=${turn.reasoning_content} raw=${raw} /></details>` : ""}<${Text} text=${turn.content || ""} raw=${raw || turn.role === "tool"} />${turn.tool_calls ? html`<${Calls} text=${turn.tool_calls} />` : ""}</div>`;

const Calls = ({ text }) => {
  const calls = useMemo(() => { try { return JSON.parse(text); } catch { return null; } }, [text]);
  if (!Array.isArray(calls)) return html`<pre class="text">${text}</pre>`;
  return html`<div class="calls">${calls.map((call) => html`<div class="call"><b>${String(call?.function?.name ?? call?.name ?? "call")}</b><pre class="text">${pretty(call?.function?.arguments ?? call)}</pre></div>`)}</div>`;
};

const pretty = (value) => {
  if (typeof value !== "string") return JSON.stringify(value, null, 2);
  try { return JSON.stringify(JSON.parse(value), null, 2); } catch { return value; }
};

const Verdicts = ({ data }) => {
  const verdicts = (data.verdicts || []).filter((one) => one.verifier);
  return html`${verdicts.length > 0 && html`<section><h3>Verdicts</h3><div class="scroll"><table class="list"><thead><tr><th>Verifier</th><th></th><th>Answer</th><th class="number">Credit</th><th>Detail</th></tr></thead><tbody>${verdicts.map((one) => html`<tr><td>${one.verifier}</td><td>${one.is_correct === null ? one.status : one.is_correct ? html`<span class="right">right</span>` : html`<span class="wrong">wrong</span>`}</td><td><code>${one.predicted_answer ?? ""}</code></td><td class="number">${number(one.credit)}</td><td><pre class="text">${one.detail ?? ""}</pre></td></tr>`)}</tbody></table></div></section>`}
  ${data.scores?.length > 0 && html`<section><h3>Scores</h3><div class="scroll"><table class="list"><tbody>${data.scores.map((one) => html`<tr><td>${one.scorer}</td><td class="number">${number(one.score)}</td><td>${(one.step_scores || []).map((step) => number(step)).join("  ")}</td><td>${one.detail ?? ""}</td></tr>`)}</tbody></table></div></section>`}`;
};

const Lineage = ({ run, data, table }) => {
  if (table) return null;
  const why = data.trained === "yes" ? [] : [data.sample.status === "error" ? "it was refused" : "", data.verdict && data.verdict !== "right" ? `its verdict: ${data.verdict}` : "", data.kept && data.kept !== "kept" ? `it was pruned: ${data.kept}` : ""].filter(Boolean);
  const rows = [...(data.sft || []).map((row) => ({ ...row, side: "a training row" })), ...(data.preferences || []).map((row) => ({ ...row, side: `the ${row.side} side of a pair` }))];
  return html`<section><h3>Training</h3>${rows.length ? html`<ul class="told">${rows.map((row) => html`<li><span>${row.stage}: ${row.side}</span>${row.other === undefined ? "" : row.slot === null ? html`<span class="quiet">with sample ${row.other}</span>` : html`<a href=${link(["run", run, "samples"], { problem: data.problem_key, at: row.slot })}>the other side: sample ${row.other}</a>`}<details><summary>row</summary><pre class="text">${JSON.stringify(row, null, 2)}</pre></details></li>`)}</ul>` : html`<p class="quiet">In no training set of this run${why.length ? `; ${why.join(", ")}` : ""}.</p>`}
    ${(data.paths || []).map((path) => html`<p class="quiet">${path.stage}: weight ${number(path.weight)}${path.kept ? "" : `, dropped: ${path.reason ?? ""}`}</p>`)}</section>`;
};

const Node = ({ node }) => html`<li class=${node.chosen ? "chosen" : node.kept ? "" : "pruned"}><details><summary><code>${node.call}</code>${node.score === null ? "" : html`<b>${node.score.toFixed(3)}</b>`}${node.role === "policy" ? "" : html`<span class="role">${node.role}</span>`}<span class="said">${node.text.replace(/\s+/g, " ").trim().slice(0, 140)}</span>${node.rows.length ? html`<em>row ${node.rows.join(", ")}${node.chosen ? ", chosen" : ""}</em>` : ""}</summary><pre class="text">${node.text}</pre>${node.error ? html`<${Note} kind="bad">${node.error}<//>` : ""}</details>${node.children.length ? html`<ul>${node.children.map((child) => html`<${Node} node=${child} />`)}</ul>` : ""}</li>`;

const Episode = ({ episode }) => html`<section><h3>Episode ${episode.episode}: ${episode.strategy}, ended by ${episode.ended_by}</h3><p class="quiet">${count(episode.calls)} calls, ${count(episode.prompt_tokens)} tokens read, ${count(episode.completion_tokens)} written${episode.scorer_passes ? `, ${count(episode.scorer_passes)} scores` : ""}</p><ul class="tree">${episode.tree.map((node) => html`<${Node} node=${node} />`)}</ul></section>`;

const LIMIT = { maxEditLength: 6000, timeout: 1500 };
const compared = (one, other) => (one.length + other.length < 60000 ? diffWordsWithSpace(one, other, LIMIT) : undefined) ?? diffLines(one, other, LIMIT) ?? null;

export const Diff = ({ run, left, right, query, back }) => {
  const one = useAsked(`${of(run)}/sample/${left}`);
  const other = useAsked(`${of(run)}/sample/${right}`);
  const thought = query.open === "1" ? "reasoning" : "completion";
  const text = (asked) => asked.data.sample[thought] ?? "";
  const parts = useMemo(() => (one.data && other.data ? compared(text(one), text(other)) : undefined), [one.data, other.data, thought]);
  if (!one.data || !other.data) return html`<div><${Waiting} asked=${one} /><${Waiting} asked=${other} /></div>`;
  const column = (asked, drop, kind) => html`<div class="column"><h3><${Mark} verdict=${asked.data.verdict} />${asked.data.problem.problem_id} <span class="quiet">#${asked.data.sample_index ?? asked.data.slot} · ${count(asked.data.tokens)} tokens</span></h3>
    <pre class="text">${parts === null || parts === undefined ? text(asked) : parts.filter((part) => !part[drop]).map((part) => (part[kind] ? html`<mark class=${kind}>${part.value}</mark>` : part.value))}</pre></div>`;
  return html`<article class="diff"><header><a class="plain" href=${back}>← one sample</a>${parts === null ? html`<span class="quiet">too different to be compared word by word</span>` : ""}</header><div class="columns">${column(one, "added", "removed")}${column(other, "removed", "added")}</div></article>`;
};

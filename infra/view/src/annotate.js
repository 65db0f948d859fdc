// Annotating verdicts (with --control): right or wrong, with a note; the ones that tell an audit most, one after the other.
import { useEffect, useRef, useState } from "preact/hooks";
import { mayAct, of, send } from "./api.js";
import { Note, count, go, html, link, percent, useAsked, useKeys } from "./kit.js";
import { Tabs } from "./run.js";
import { Sample } from "./sample.js";

const SAYS = [[true, "r", "the sample is right"], [false, "w", "the sample is wrong"]];

/** The marks of one sample. `lot` says of which stratum it was drawn, where it was asked for. */
export const Marks = ({ run, data, lot = {}, onMarked, said }) => {
  const [state, set] = useState({});
  const note = useRef(null);
  useEffect(() => set({}), [data.slot]);
  const mark = async (right) => {
    set({ busy: true });
    try {
      const about = { problem_key: data.problem_key, sample_index: data.sample_index, is_correct: right, note: note.current?.value || "" };
      const row = await send(`${of(run)}/annotate`, { ...about, ...lot });
      set({ row });
      onMarked?.(row);
    } catch (error) {
      set({ error: error.message });
    }
  };
  useKeys({ r: () => void mark(true), w: () => void mark(false), n: () => note.current?.focus() });
  const now = state.row || said;
  return html`<section class="marks"><div class="acts">
      ${SAYS.map(([right, key, label]) => html`<button disabled=${state.busy} data-mark=${String(right)} class=${`tag ${right ? "right" : "wrong"} ${now?.is_correct === right ? "on" : ""}`} onClick=${() => mark(right)}>${label} <kbd>${key}</kbd></button>`)}
      ${now && now.is_correct !== null && html`<button class="plain" onClick=${() => mark(null)}>take back</button>`}
      <label class="wide">Note <kbd>n</kbd><input ref=${note} maxlength="10000" key=${data.slot} defaultValue=${now?.note || ""} /></label></div>
    ${state.error && html`<${Note} kind="bad">${state.error}<//>`}
    ${now && now.is_correct !== null && html`<p class="quiet">${now.author} found the sample ${now.is_correct ? "right" : "wrong"}${["right", "wrong"].includes(data.verdict) ? `, so the verdict ${(data.verdict === "right") === now.is_correct ? "right" : "wrong"}` : ""}${now.note ? `: ${now.note}` : ""}</p>`}</section>`;
};

/** The marks beside a sample that is read; nothing where the view only reads. */
export const Annotate = ({ run, data }) => {
  const [marks, marked] = useState(0);
  const { data: known } = useAsked(mayAct() && data.verdict ? `${of(run)}/annotations` : null, {}, marks);
  if (!mayAct() || !data.verdict || !known) return null;
  const said = known.annotations.find((one) => one.problem_key === data.problem_key && one.sample_index === data.sample_index);
  return html`<${Marks} run=${run} data=${data} said=${said} onMarked=${() => marked(marks + 1)} />`;
};

const Audit = ({ audit }) => html`<p class="quiet audit">${count(audit.annotated)} annotated, ${count(audit.labels)} of them by lot. ${audit.rows.filter((one) => ["completeness", "soundness", "precision"].includes(one.metric) && one.value !== null).map((one) => html`<span>${one.metric} <b>${percent(one.value)}</b>${one.low === null ? "" : ` (${percent(one.low)} to ${percent(one.high)})`} </span>`)}${audit.why}</p>`;

/** One after the other: what `measure.next_labels` asks for. */
export const Queue = ({ run, query }) => {
  const [round, again] = useState(0);
  const [done, finish] = useState(0);
  const asked = useAsked(`${of(run)}/next`, { count: 20 }, round);
  const audited = useAsked(`${of(run)}/audit`, {}, round);
  const known = useAsked(`${of(run)}/annotations`, {}, done);
  const [place, put] = useState(0);
  const list = asked.data?.next || [];
  const one = list[Math.min(place, list.length - 1)];
  const step = (by) => put(Math.max(0, Math.min(list.length - 1, place + by)));
  const next = () => {
    finish(done + 1);
    if (place + 1 < list.length) put(place + 1);
    else { put(0); again(round + 1); }
  };
  useKeys({ j: () => step(1), k: () => step(-1), v: () => go(link(["run", run, "annotate"], { ...query, raw: query.raw ? "" : "1" }), true), t: () => go(link(["run", run, "annotate"], { ...query, open: query.open ? "" : "1" }), true), Escape: () => go(link(["run", run])) });
  const { data } = useAsked(one ? `${of(run)}/sample/${one.slot}` : null);
  const to = (changes) => link(["run", run, "annotate"], { ...query, ...changes });
  return html`<main class="wide"><div class="head"><h1>Annotate</h1><span class="quiet">${list.length ? `${place + 1} of ${list.length} in this round, ${count(done)} said` : ""}</span></div>
    <${Tabs} run=${run} at="annotate" />
    ${audited.data && html`<${Audit} audit=${audited.data} />`}
    ${asked.error && html`<${Note} kind="bad">${asked.error}<//>`}${asked.data?.why && html`<${Note}>${asked.data.why}<//>`}
    ${one && data && data.slot === one.slot && html`<${Marks} key=${one.slot} run=${run} data=${data} lot=${{ stratum: one.stratum, stratum_size: one.stratum_size }} onMarked=${next} said=${known.data?.annotations.find((of) => of.problem_key === one.problem_key && of.sample_index === one.sample_index)} />
      <${Sample} key=${`s${one.slot}`} run=${run} slot=${one.slot} query=${query} to=${to} marked=${null} onMark=${() => undefined} asking />`}
  </main>`;
};

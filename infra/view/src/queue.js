// Annotating the verdicts that tell an audit most (with --control), one after the other.
import { useState } from "preact/hooks";
import { Marks, useSaid } from "./annotate.js";
import { of } from "./api.js";
import { Note, count, go, html, link, percent, useAsked, useKeys } from "./kit.js";
import { Tabs } from "./run.js";
import { Sample } from "./sample.js";

const Audit = ({ audit }) => html`<p class="quiet audit">${count(audit.annotated)} annotated, ${count(audit.labels)} of them by lot. ${audit.rows.filter((one) => ["completeness", "soundness", "precision"].includes(one.metric) && one.value !== null).map((one) => html`<span>${one.metric} <b>${percent(one.value)}</b>${one.low === null ? "" : ` (${percent(one.low)} to ${percent(one.high)})`} </span>`)}${audit.why}</p>`;

/** One after the other: what `measure.next_labels` asks for. */
export const Queue = ({ run, query }) => {
  const [round, again] = useState(0);
  const [done, finish] = useState(0);
  const asked = useAsked(`${of(run)}/next`, { count: 20 }, round);
  const audited = useAsked(`${of(run)}/audit`, {}, round);
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
  const said = useSaid(run, one, done);
  const { data } = useAsked(one ? `${of(run)}/sample/${one.slot}` : null);
  const to = (changes) => link(["run", run, "annotate"], { ...query, ...changes });
  return html`<main class="wide"><div class="head"><h1>Annotate</h1><span class="quiet">${list.length ? `${place + 1} of ${list.length} in this round, ${count(done)} said` : ""}</span></div>
    <${Tabs} run=${run} at="annotate" />
    ${audited.data && html`<${Audit} audit=${audited.data} />`}
    ${asked.error && html`<${Note} kind="bad">${asked.error}<//>`}${asked.data?.why && html`<${Note}>${asked.data.why}<//>`}
    ${one && data && data.slot === one.slot && said !== undefined && html`<${Marks} key=${one.slot} run=${run} data=${data} lot=${{ stratum: one.stratum, stratum_size: one.stratum_size }} onMarked=${next} said=${said} />
      <${Sample} key=${`s${one.slot}`} run=${run} slot=${one.slot} query=${query} to=${to} marked=${null} onMark=${() => undefined} asking />`}
  </main>`;
};

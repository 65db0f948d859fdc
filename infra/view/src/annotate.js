// Annotating verdicts (with --control): right or wrong, with a note.
import { useEffect, useRef, useState } from "preact/hooks";
import { mayAct, of, send } from "./api.js";
import { Note, html, useAsked, useKeys } from "./kit.js";

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
  return html`<section class="marks card"><div class="acts">
      ${SAYS.map(([right, key, label]) => html`<button disabled=${state.busy} data-mark=${String(right)} class=${`tag ${right ? "right" : "wrong"} ${now?.is_correct === right ? "on" : ""}`} onClick=${() => mark(right)}>${label} <kbd>${key}</kbd></button>`)}
      ${now && now.is_correct !== null && html`<button class="plain" onClick=${() => mark(null)}>take back</button>`}
      <label class="wide"><span>Note <kbd>n</kbd></span><input ref=${note} maxlength="10000" key=${data.slot} defaultValue=${now?.note || ""} /></label></div>
    ${state.error && html`<${Note} kind="bad">${state.error}<//>`}
    ${now && now.is_correct !== null && html`<p class="quiet">${now.author} found the sample ${now.is_correct ? "right" : "wrong"}${["right", "wrong"].includes(data.verdict) ? `, so the verdict ${(data.verdict === "right") === now.is_correct ? "right" : "wrong"}` : ""}${now.note ? `: ${now.note}` : ""}</p>`}</section>`;
};

/** What was said of a sample last: null where nothing was, undefined as long as that isn't known. */
export const useSaid = (run, sample, again) => {
  const { data, error, loading } = useAsked(sample ? `${of(run)}/annotation` : null, sample ? { problem_key: sample.problem_key, sample_index: sample.sample_index } : {}, again);
  const mine = sample && data && !loading && data.problem_key === sample.problem_key && data.sample_index === sample.sample_index;
  return mine ? data.said : error && !loading ? null : undefined;
};

/** The marks beside a sample that is read; nothing where the view only reads. */
export const Annotate = ({ run, data }) => {
  const [marks, marked] = useState(0);
  const said = useSaid(run, mayAct() && data.verdict ? data : null, marks);
  if (!mayAct() || !data.verdict || said === undefined) return null;
  return html`<${Marks} run=${run} data=${data} said=${said} onMarked=${() => marked(marks + 1)} />`;
};

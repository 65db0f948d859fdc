// Telling a run something (with --control): pause, go on, cancel, other settings, a problem's rows once more.
import { useState } from "preact/hooks";
import { of, send } from "./api.js";
import { Note, count, html, moment } from "./kit.js";

const ASKED = { pause: "Pause", resume: "Go on", cancel: "Cancel the run" };
const EXAMPLES = ["run.budget.tokens", "run.budget.samples", "run.budget.dollars", "concurrency", "policy", "priority"];

/** What is written, as JSON has it: numbers and null; anything else is a text. */
const plain = (text) => {
  if (text === "null") return null;
  if (/^-?\d+(\.\d+)?(e\d+)?$/i.test(text)) return Number(text);
  return text;
};

export const Control = ({ run, data }) => {
  const [state, set] = useState({});
  const [reason, because] = useState("");
  const [key, choose] = useState(EXAMPLES[0]);
  const [value, write] = useState("");
  const [problem, name] = useState("");
  const tell = async (action, more = {}) => {
    if (action === "cancel" && !confirm("Cancel this run? What was committed stays.")) return;
    set({ busy: true });
    try {
      set({ said: (await send(`${of(run)}/order`, { action, reason, ...more })).answer });
      because("");
    } catch (error) {
      set({ error: error.message });
    }
  };
  const button = (action, label, more, lacks = false) => html`<button disabled=${state.busy || lacks} data-act=${action} onClick=${() => tell(action, more)}>${label}</button>`;
  return html`<section class="control"><h2>Control</h2>
    ${data.state === "running" && html`<div class="card"><div class="acts">${button(data.paused ? "resume" : "pause", ASKED[data.paused ? "resume" : "pause"])}${button("cancel", ASKED.cancel)}
      <label class="wide">Why<input value=${reason} maxlength="1000" onInput=${(event) => because(event.target.value)} /></label></div>
    <div class="acts"><label>Setting<input list="settable" value=${key} onInput=${(event) => choose(event.target.value)} /></label><datalist id="settable">${EXAMPLES.map((one) => html`<option value=${one} />`)}</datalist>
      <label>Value<input value=${value} onInput=${(event) => write(event.target.value)} /></label>${button("set", "Set", { values: { [key.trim()]: plain(value.trim()) } }, !key.trim() || !value.trim())}
      <label class="apart">Problem<input value=${problem} onInput=${(event) => name(event.target.value)} /></label>${button("requeue", "Make its refused rows again", { problem: problem.trim() }, !problem.trim())}</div></div>`}
    ${state.error && html`<${Note} kind="bad">${state.error}<//>`}${state.said && html`<${Note}>${state.said}<//>`}</section>`;
};

export const Orders = ({ orders }) => orders.length > 0 && html`<section><h2>What it was told <span class="quiet">${count(orders.length)}</span></h2><div class="scroll"><table class="list orders"><tbody>${[...orders].reverse().map((one) => html`<tr><td>${moment(one.answered)}</td><td>${one.by}</td><td>${one.what}</td><td class=${one.result === "applied" ? "right" : "wrong"}>${one.result}</td><td>${one.answer}</td><td class="quiet">${one.reason}</td></tr>`)}</tbody></table></div></section>`;

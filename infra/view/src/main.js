// The page: which part of it an address asks for.
import "katex/dist/katex.min.css";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Note, Waiting, html, link, useAsked, useKeys, useRoute } from "./kit.js";
import { Queue } from "./queue.js";
import { allow } from "./api.js";
import { Problem, Problems } from "./problems.js";
import { Run } from "./run.js";
import { Compare, Runs } from "./runs.js";
import { Samples } from "./samples.js";

const KEYS = [["j  k", "next, previous"], ["Enter", "open"], ["/", "search"], ["v", "raw or rendered"], ["t", "open reasoning"], ["d", "mark a sample, then compare another with it"], ["x", "choose a run"], ["c", "compare the chosen runs"], ["Esc", "back; stop a search"], ["r  w  n", "annotate: right, wrong, a note (--control)"], ["?", "this list"]];

const Help = ({ onClose }) => html`<div class="help" role="dialog" aria-label="Keys" onClick=${onClose}><div class="card"><h2>Keys</h2><dl>${KEYS.map(([key, does]) => html`<dt><kbd>${key}</kbd></dt><dd>${does}</dd>`)}</dl></div></div>`;

const Page = ({ route, about }) => {
  const { parts, query } = route;
  if (about.kind === "table") return html`<${Samples} run="table" query=${query} table />`;
  const [first, run, what, which] = parts;
  if (first === "compare") return html`<${Compare} query=${query} />`;
  if (first === "run" && run && what === "problem" && which) return html`<${Problem} key=${which} run=${run} of=${which} query=${query} />`;
  if (first === "run" && run && what === "problems") return html`<${Problems} key=${run} run=${run} query=${query} />`;
  if (first === "run" && run && what === "samples") return html`<${Samples} key=${run} run=${run} query=${query} />`;
  if (first === "run" && run && what === "annotate" && about.control) return html`<${Queue} key=${run} run=${run} query=${query} />`;
  if (first === "run" && run && !what) return html`<${Run} key=${run} run=${run} />`;
  if (first === "runs") return html`<${Runs} query=${query} />`;
  if (!first) return about.run ? html`<${Run} key=${about.run} run=${about.run} />` : html`<${Runs} query=${query} />`;
  return html`<main class="wide"><${Note}>There is no such page.<//></main>`;
};

const App = () => {
  const route = useRoute();
  const about = useAsked("about");
  const [help, set] = useState(false);
  allow(about.data?.control);
  useKeys({ "?": () => set(!help), ...(help ? { Escape: () => set(false) } : {}) });
  useEffect(() => { document.title = ["Gristmill", ...route.parts.slice(1)].join(" · "); }, [route]);
  return html`<nav class="bar"><a class="brand" href=${about.data?.kind === "table" ? link(["table"]) : link(["runs"])}>Gristmill</a><span class="where">${about.data?.where}</span><button class="plain" aria-label="Keys" onClick=${() => set(true)}>?</button></nav>
    ${about.data ? html`<${Page} route=${route} about=${about.data} />` : html`<main class="wide"><${Waiting} asked=${about} /></main>`}
    ${help && html`<${Help} onClose=${() => set(false)} />`}`;
};

if (location.search) history.replaceState(null, "", location.pathname + location.hash); // the token is a cookie by now

render(html`<${App} />`, document.getElementById("app"));

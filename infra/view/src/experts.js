// Where tokens went in a mixture of experts: a heat map of each expert's load, and how even that made the GPUs.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { of } from "./api.js";
import { Chart, colour } from "./chart.js";
import { html, number, useAsked } from "./kit.js";

const MOST = 4; // means of a layer from which on all are equally dark
const LINES = [["measured", "right"], ["predicted", "wrong"], ["EPLB", "s0"], ["linear", "unjudged"]];

/** A row for each layer, its experts from the heaviest to the lightest, or in order of their numbers. */
const Heat = ({ loads, sorted }) => {
  const place = useRef(null);
  const [told, tell] = useState(null);
  const rows = useMemo(() => loads.map((row) => { const all = row.map((load, expert) => [load, expert]); return sorted ? all.sort((a, b) => b[0] - a[0]) : all; }), [loads, sorted]);
  useEffect(() => {
    const draw = () => {
      const ink = place.current.getContext("2d");
      [place.current.width, place.current.height] = [rows[0].length, rows.length];
      ink.clearRect(0, 0, rows[0].length, rows.length);
      ink.fillStyle = colour("right");
      rows.forEach((row, layer) => row.forEach(([load], at) => { ink.globalAlpha = Math.min(1, load / MOST); ink.fillRect(at, layer, 1, 1); }));
    };
    draw();
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    return () => dark.removeEventListener("change", draw);
  }, [rows]);
  const point = (event) => {
    const box = place.current.getBoundingClientRect();
    const layer = Math.min(rows.length - 1, Math.floor(((event.clientY - box.top) / box.height) * rows.length));
    const found = rows[layer]?.[Math.min(rows[0].length - 1, Math.floor(((event.clientX - box.left) / box.width) * rows[0].length))];
    tell(found ? `layer ${layer}, expert ${found[1]}: ${number(found[0])} times its layer's mean` : null);
  };
  const label = `load of each of ${rows[0].length} experts in each of ${rows.length} layers, the darker the more`;
  return html`<canvas class="heat" role="img" aria-label=${label} ref=${place} onPointerMove=${point} onPointerLeave=${() => tell(null)}></canvas>
    <p class="aside">${told ?? `Layers from the top, ${sorted ? "the heaviest expert first" : "experts by their numbers"}; darker is more, up to four means of a layer.`}</p>`;
};

const Stage = ({ found }) => {
  const [sorted, sort] = useState(true);
  const lines = LINES.filter(([name]) => found.balance[name]);
  const data = useMemo(() => [found.loads.map((_, layer) => layer), ...lines.map(([name]) => found.balance[name])], [found]);
  const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
  return html`<div class="charts"><figure class="card chart"><figcaption><h3>${found.stage}: load of each expert</h3><button class="plain" onClick=${() => sort(!sorted)}>${sorted ? "by number" : "by load"}</button></figcaption><${Heat} loads=${found.loads} sorted=${sorted} /></figure>
    ${lines.length > 0 && html`<${Chart} title=${`Balance of ${found.gpus} GPUs, by layer`} data=${data} near formatX=${String} series=${lines.map(([name, shade]) => ({ label: `${name}, mean ${mean(found.balance[name]).toFixed(3)}`, colour: shade, points: true }))} note="Mean load of the GPUs over the fullest one's: 1 is even. EPLB is vLLM's own policy, given these very counts." />`}</div>`;
};

export const Experts = ({ run, again }) => {
  const { data } = useAsked(`${of(run)}/experts`, {}, again);
  return data?.length > 0 && html`<section class="experts"><h2>Experts</h2>${data.map((found) => html`<${Stage} key=${found.stage} found=${found} />`)}</section>`;
};

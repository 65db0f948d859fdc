// Curves that are redrawn as data comes, in the page's own colours.
import uPlot from "uplot";
import { useEffect, useRef } from "preact/hooks";
import { html } from "./kit.js";

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const clock = (seconds) => new Date(1000 * seconds).toISOString().slice(11, 19);
const faint = (hex) => `${hex}2e`;

/**
 * Args:
 *   data: [x, y, y, ...]; series: [{label, colour, band: [low, high] positions in data}]; near: y begins where the data do; format: of x and of y.
 */
export const Chart = ({ title, data, series, log = false, time = false, share = false, near = false, formatX, note }) => {
  const place = useRef(null);
  const plot = useRef(null);
  const shape = JSON.stringify([series, log, time, share]);
  useEffect(() => {
    const node = place.current;
    const shown = time ? clock : formatX;
    const draw = () => {
      plot.current?.destroy();
      const [ink, line] = [colour("soft"), colour("line")];
      const drawn = [];
      const bands = [];
      series.forEach((one) => {
        const stroke = colour(one.colour);
        drawn.push({ label: one.label, stroke, width: one.edge ? 0 : 2, points: { show: one.points ?? false, size: 5 }, spanGaps: true });
        if (one.band) bands.push({ series: one.band, fill: faint(stroke) });
      });
      const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
      plot.current = new uPlot(
        {
          width: Math.max(200, node.clientWidth),
          height: 220,
          legend: { show: false },
          cursor: { drag: { x: false, y: false } },
          scales: {
            x: log ? { time: false, distr: 3, log: 2 } : { time },
            y: share ? { range: [0, 1] } : near ? {} : { range: (_, low, high) => [Math.min(0, low), high || 1] },
          },
          axes: [
            { ...axis, space: 70, values: shown ? (_, at) => at.map((x) => (x === null ? "" : shown(x))) : undefined },
            { ...axis, size: 54, values: (_, at) => at.map((y) => (share ? `${Math.round(100 * y)}%` : new Intl.NumberFormat("en", { notation: "compact" }).format(y))) },
          ],
          series: [{}, ...drawn],
          bands,
        },
        data,
        node,
      );
    };
    draw();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: Math.max(200, node.clientWidth), height: 220 }));
    resized.observe(node);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data), [data]);
  return html`<figure class="card chart">
    <figcaption><h3>${title}</h3>
      <ul class="legend">${series.filter((one) => !one.edge).map((one) => html`<li><i class=${one.colour}></i>${one.label}</li>`)}</ul>
    </figcaption>
    <div class="plot" ref=${place}></div>
    ${note ? html`<p class="aside">${note}</p>` : ""}
  </figure>`;
};

// What all pages share: components, addresses, keys, numbers.
import { h } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import htm from "htm";
import { ask } from "./api.js";

export const html = htm.bind(h);

// -- addresses: every state of the page is one --------------------------------------------------------------------

export const readRoute = () => {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { parts, query: Object.fromEntries(new URLSearchParams(query || "")) };
};

export const link = (parts, query = {}) => {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const said = new URLSearchParams(kept);
  return `#/${parts.map(encodeURIComponent).join("/")}${said.size ? `?${said}` : ""}`;
};

export const go = (to, replace = false) => {
  if (replace) {
    history.replaceState(null, "", to);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = to;
};

export const useRoute = () => {
  const [route, set] = useState(readRoute);
  useEffect(() => {
    const changed = () => set(readRoute());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
};

// -- asking ------------------------------------------------------------------------------------------------------

/** A document of the server: {data, error, making, loading}. What was there stays until what is new has come. */
export const useAsked = (path, query = {}, again = 0) => {
  const [state, set] = useState({ loading: true });
  const key = path === null ? null : JSON.stringify([path, query]);
  useEffect(() => {
    if (key === null) return undefined;
    const stop = new AbortController();
    set((before) => ({ ...before, loading: true }));
    ask(path, query, { signal: stop.signal, making: (making) => set((before) => ({ ...before, making })) })
      .then((data) => set({ data, loading: false }))
      .catch((error) => stop.signal.aborted || set({ error: error.message, loading: false }));
    return () => stop.abort(new Error("left"));
  }, [key, again]);
  return state;
};

/** A number that grows every few seconds, as long as somebody can see the page. */
export const useEvery = (seconds) => {
  const [times, set] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || set((before) => before + 1), 1000 * seconds);
    return () => clearInterval(timer);
  }, [seconds]);
  return times;
};

export const useKeys = (keys) => {
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const typing = /^(input|textarea|select)$/i.test(event.target.tagName);
      if (typing && event.key !== "Escape") return;
      if (typing) event.target.blur();
      const act = current.current[event.key];
      if (act && act(event) !== false) event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
};

/** Call `act` a moment after it was last called. */
export const useLater = (act, milliseconds = 250) => {
  const timer = useRef(0);
  const last = useRef(act);
  last.current = act;
  return useMemo(
    () => (...given) => {
      clearTimeout(timer.current);
      timer.current = setTimeout(() => last.current(...given), milliseconds);
    },
    [],
  );
};

// -- numbers -----------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
export const count = (value) => (value === null || value === undefined ? "" : whole.format(value));
export const compact = (value) => (value === null || value === undefined ? "" : short.format(value));
export const percent = (share, digits = 1) =>
  share === null || share === undefined ? "" : `${(100 * share).toFixed(share === 0 || share === 1 ? 0 : digits)}%`;
export const dollars = (value) =>
  value === null || value === undefined ? "" : `$${value >= 100 ? whole.format(Math.round(value)) : value.toPrecision(3)}`;
export const number = (value, digits = 3) =>
  value === null || value === undefined ? "" : Number.isInteger(value) ? whole.format(value) : value.toPrecision(digits);
export const duration = (seconds) => {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")}`;
};
export const moment = (iso) => (iso ? iso.slice(0, 16).replace("T", " ") : "");

// -- parts -------------------------------------------------------------------------------------------------------

export const State = ({ state }) => html`<span class=${`state ${String(state).replace(/\s/g, "-")}`}>${state}</span>`;
export const Mark = ({ verdict }) =>
  html`<span class=${`mark ${verdict || "none"}`} title=${verdict || "no verdict"}>${{ right: "✓", wrong: "✗" }[verdict] || "·"}</span>`;
export const Note = ({ children, kind = "" }) => html`<p class=${`note ${kind}`}>${children}</p>`;

export const Waiting = ({ asked, what }) => {
  if (asked.error) return html`<${Note} kind="bad">${asked.error}<//>`;
  if (asked.data) return null;
  const { making } = asked;
  if (!making) return html`<p class="note quiet">…</p>`;
  const share = making.total ? making.done / making.total : 0;
  return html`<div class="making">
    <p>${what || "The index of the samples is being made"}: ${count(making.done)} of ${count(making.total)} rows</p>
    <${Meter} share=${share} />
  </div>`;
};

export const Meter = ({ share, second = 0, kind = "" }) =>
  html`<span class=${`meter ${kind}`}
    ><i class="was" style=${{ width: `${100 * Math.min(1, second)}%` }}></i
    ><i style=${{ width: `${100 * Math.max(0, Math.min(1, share) - second)}%` }}></i
  ></span>`;

/** A rate with its interval, as a line from 0 to 1. */
export const Interval = ({ value, low, high }) =>
  value === null || value === undefined
    ? null
    : html`<svg class="interval" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
        <path class="axis" d="M0 5H100" />
        <path class="band" d=${`M${100 * (low ?? value)} 5H${100 * (high ?? value)}`} />
        <path class="point" d=${`M${100 * value} 1V9`} />
      </svg>`;

export const Spark = ({ values, label, kind = "" }) => {
  const known = values.map((value, at) => [at, value]).filter(([, value]) => value !== null && value !== undefined);
  if (known.length < 2) return html`<span class="spark none"></span>`;
  const all = known.map(([, value]) => value);
  const low = Math.min(...all);
  const span = Math.max(...all) - low || 1;
  const place = ([at, value]) =>
    `${((100 * at) / Math.max(1, values.length - 1)).toFixed(1)} ${(21 - (18 * (value - low)) / span).toFixed(1)}`;
  return html`<svg class=${`spark ${kind}`} viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label=${label}>
    <path d=${`M${known.map(place).join("L")}`} />
  </svg>`;
};

/** A histogram whose bars can be chosen: one click narrows to a bar, a second one lets go. */
export const Histogram = ({ title, bins, chosen, onChoose, format = number }) => {
  const most = Math.max(...bins.counts);
  const active = (low, high) => chosen === `${low}..${high}`;
  const discrete = bins.edges.length - 1 === bins.counts.length && bins.edges.every(Number.isInteger);
  return html`<figure class=${`histogram ${chosen ? "chosen" : ""}`}>
    <figcaption>${title}${chosen ? html`<button class="plain" onClick=${() => onChoose("")}>clear</button>` : ""}</figcaption>
    <div class="bars">
      ${bins.counts.map((height, at) => {
        const low = bins.edges[at];
        const high = discrete ? Math.max(low, bins.edges[at + 1] - 1) : bins.edges[at + 1] ?? low;
        const said = `${low === high ? format(low) : `${format(low)} to ${format(high)}`}: ${count(height)}`;
        return html`<button class=${active(low, high) ? "on" : ""} title=${said} aria-label=${said}
          onClick=${() => onChoose(active(low, high) ? "" : `${low}..${high}`)}
          ><i style=${{ height: `${height ? 6 + (94 * height) / most : 0}%` }}></i></button>`;
      })}
    </div>
    <div class="ends"><span>${format(bins.edges[0])}</span><span>${format(bins.edges[bins.edges.length - 1])}</span></div>
  </figure>`;
};

export const Copy = ({ text, label }) => {
  const [done, set] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
    set(true);
    setTimeout(() => set(false), 1200);
  };
  return html`<button class="plain" onClick=${copy}>${done ? "copied" : label}</button>`;
};

export const Sorted = ({ name, label, query, onSort, right = true }) => {
  const active = query.sort === name;
  const asc = active && query.order === "asc";
  return html`<th class=${right ? "number" : ""} aria-sort=${active ? (asc ? "ascending" : "descending") : "none"}>
    <button class="plain" onClick=${() => onSort(name, active && !asc ? "asc" : "")}>${label}${active ? (asc ? " ↑" : " ↓") : ""}</button>
  </th>`;
};

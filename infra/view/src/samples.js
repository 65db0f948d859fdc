// Reading samples: a list by filter or by search, and beside it the one that is read.
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, hear, of } from "./api.js";
import { Mark, Meter, Note, count, go, html, link, useAsked, useKeys } from "./kit.js";
import { Tabs } from "./run.js";
import { Diff, Sample } from "./sample.js";

const PAGE = 60;
const FILTERS = ["verdict", "status", "finish", "model", "kept", "trained", "chosen", "tokens", "score", "answer", "episode", "problem", "index", "sort", "order"];
export const filterOf = (query) => Object.fromEntries(FILTERS.filter((name) => query[name]).map((name) => [name, query[name]]));

/** The lines of a filter: from the index at once, their texts behind them; more of them on demand. */
const useLines = (run, query) => {
  const filter = filterOf(query);
  const key = JSON.stringify([run, filter, query.q, query.regex]);
  const [state, set] = useState({ lines: [], loading: true });
  const stop = useRef(null);
  const page = async (lines, signal) => {
    const from = filter.sort ? { offset: lines.length } : { after: lines.length ? lines.at(-1).slot : "" };
    const asked = { ...filter, ...from, limit: PAGE };
    const found = await ask(`${of(run)}/samples`, asked, { signal, making: (making) => set((before) => ({ ...before, making })) });
    const all = [...lines, ...found.samples];
    set((before) => ({ ...before, lines: all, loading: false, making: null, ended: found.samples.length < PAGE }));
    const { texts } = await ask(`${of(run)}/samples`, { ...asked, texts: 1 }, { signal });
    set((before) => ({ ...before, lines: before.lines.map((line) => ({ ...line, ...texts[line.slot] })) }));
  };
  const fail = (signal) => (error) => signal.aborted || set((before) => ({ ...before, loading: false, error: error.message }));
  useEffect(() => {
    stop.current?.abort(new Error("left"));
    const now = (stop.current = new AbortController());
    set({ lines: [], loading: true });
    if (query.q) {
      const close = hear(`${of(run)}/search`, { ...filter, text: query.q, regex: query.regex }, (news, source) => {
        if (news.done || now.signal.aborted) source.close();
        set((before) => ({ ...before, lines: [...before.lines, ...news.hits], searched: news.searched || before.searched, loading: !news.done, ended: Boolean(news.done), more: news.more, error: news.error }));
      }, (source) => { source.close(); set((before) => ({ ...before, loading: false, ended: true, error: before.ended ? undefined : "the server doesn't answer any more: what it found before is shown" })); });
      now.signal.addEventListener("abort", () => { close(); set((before) => ({ ...before, loading: false, ended: true })); });
      return () => now.abort(new Error("left"));
    }
    page([], now.signal).catch(fail(now.signal));
    ask(`${of(run)}/count`, filter, { signal: now.signal }).then((said) => set((before) => ({ ...before, count: said.count }))).catch(() => undefined);
    return () => now.abort(new Error("left"));
  }, [key]);
  const more = () => {
    if (state.loading || state.ended || query.q || !state.lines.length) return;
    set((before) => ({ ...before, loading: true }));
    page(state.lines, stop.current.signal).catch(fail(stop.current.signal));
  };
  return { ...state, more, cancel: () => stop.current?.abort(new Error("cancelled")) };
};

export const Samples = ({ run, query, table }) => {
  const found = useLines(run, query);
  const { lines } = found;
  const [marked, mark] = useState(null);
  const search = useRef(null);
  const base = table ? ["table"] : ["run", run, "samples"];
  const to = (changes) => link(base, { ...query, ...changes });
  const set = (changes) => go(to({ at: "", ...changes }), true);
  const at = query.at === undefined || query.at === "" ? null : Number(query.at);
  const position = lines.findIndex((line) => line.slot === at);
  const step = (by) => {
    const next = lines[Math.max(0, position < 0 ? 0 : position + by)];
    if (next) go(to({ at: next.slot }), true);
    if (position + by >= lines.length - 5) found.more();
  };
  const compare = () => {
    if (at === null) return;
    if (marked === null || marked === at) mark(marked === at ? null : at);
    else { mark(null); go(to({ with: marked })); }
  };
  useKeys({
    j: () => step(1), k: () => step(-1), "/": () => search.current?.focus(), d: compare, v: () => go(to({ raw: query.raw ? "" : "1" }), true), t: () => go(to({ open: query.open ? "" : "1" }), true),
    Escape: () => { if (query.with) go(to({ with: "" })); else if (found.loading && query.q) found.cancel(); else if (at !== null) go(to({ at: "" }), true); },
  });
  useEffect(() => document.querySelector(".line.at")?.scrollIntoView({ block: "nearest" }), [at, position >= 0]);
  const scrolled = (event) => { const { scrollTop, clientHeight, scrollHeight } = event.target; if (scrollTop + clientHeight > scrollHeight - 400) found.more(); };
  const submit = (event) => { if (event.key === "Enter") set({ q: event.target.value }); };
  return html`<main class=${`reader ${at === null ? "" : "reading"}`}>
    <div class="side">
      <div class="top">${table ? "" : html`<${Tabs} run=${run} at="samples" />`}
        <div class="search"><input ref=${search} type="search" placeholder="search the texts, then Enter  ( / )" aria-label="Search the texts" key=${query.q || ""} defaultValue=${query.q || ""} onKeyDown=${submit} onSearch=${(event) => event.target.value === "" && query.q && set({ q: "" })} />
          <label class="small"><input type="checkbox" checked=${query.regex === "1"} onChange=${(event) => set({ regex: event.target.checked ? "1" : "" })} /> regex</label></div>
        <${Filters} run=${run} query=${query} set=${set} table=${table} />
        <p class="counted">${query.q ? html`${count(lines.length)}${found.more && found.ended && lines.length >= 1000 ? "+" : ""} found${found.searched !== undefined ? `, ${count(found.searched)} searched` : ""} ${found.loading ? html`<button class="plain" onClick=${found.cancel}>stop</button>` : ""}` : found.count === undefined ? "…" : `${count(found.count)} ${table ? "rows" : "samples"}`}</p>
      </div>
      <div class="lines" onScroll=${scrolled}>
        ${found.error && html`<${Note} kind="bad">${found.error}<//>`}
        ${found.making && html`<div class="making"><p>The index is being made: ${count(found.making.done)} of ${count(found.making.total)} rows</p><${Meter} share=${found.making.total ? found.making.done / found.making.total : 0} /></div>`}
        ${!found.loading && !found.error && !lines.length && html`<${Note}>Nothing fits.<//>`}
        ${lines.map((line) => html`<a key=${line.slot} class=${`line ${line.slot === at ? "at" : ""} ${line.slot === marked ? "marked" : ""}`} href=${to({ at: line.slot, with: "" })}>
          <span class="first"><${Mark} verdict=${line.verdict} /><b>${line.name ?? line.problem_id}</b>${line.sample_index === undefined ? "" : html`<span class="quiet">#${line.sample_index}</span>`}${line.said ? html`<code>${line.said}</code>` : ""}<span class="quiet end">${line.tokens ? `${count(line.tokens)} token${line.tokens === 1 ? "" : "s"}` : ""}</span></span>
          <span class="snippet">${line.error ? line.error : line.text ?? ""}</span>
          <${Badges} line=${line} /></a>`)}
      </div>
    </div>
    <div class="page">${at === null ? html`<div class="empty"><p class="quiet">Choose a sample, or press <kbd>j</kbd>.</p></div>`
      : query.with ? html`<${Diff} run=${run} left=${Number(query.with)} right=${at} query=${query} back=${to({ with: "" })} />`
      : html`<${Sample} run=${run} slot=${at} query=${query} to=${to} marked=${marked} onMark=${compare} table=${table} />`}</div>
  </main>`;
};

const Badges = ({ line }) => {
  const said = [line.finish && line.finish !== "stop" ? line.finish : "", line.status === "error" ? "refused" : "", !["", "right", "wrong"].includes(line.verdict) ? line.verdict : "", line.kept && line.kept !== "kept" ? `pruned: ${line.kept}` : "", line.trained === "yes" ? "in the training set" : "", line.episode !== null && line.episode !== undefined ? `episode ${line.episode}${line.chosen === "yes" ? ", chosen" : ""}` : "", line.model].filter(Boolean);
  return said.length ? html`<span class="badges">${said.map((one) => html`<small>${one}</small>`)}</span>` : null;
};

const Choice = ({ name, label, values, query, set }) => html`<label>${label}<select value=${query[name] || ""} onChange=${(event) => set({ [name]: event.target.value })}><option value="">any</option>${values.map((value) => { const [code, said] = Array.isArray(value) ? value : [value, value]; return html`<option value=${code} selected=${query[name] === code}>${said}</option>`; })}</select></label>`;
const Range = ({ name, label, query, set }) => {
  const [low, high] = (query[name] || "..").split("..");
  const change = (a, b) => set({ [name]: a || b ? `${a}..${b}` : "" });
  return html`<label class="range">${label}<span><input inputmode="decimal" aria-label=${`${label} at least`} placeholder="from" key=${`a${low}`} defaultValue=${low} onChange=${(event) => change(event.target.value.trim(), high)} /><input inputmode="decimal" aria-label=${`${label} at most`} placeholder="to" key=${`b${high}`} defaultValue=${high} onChange=${(event) => change(low, event.target.value.trim())} /></span></label>`;
};

const Filters = ({ run, query, set, table }) => {
  const names = useAsked(`${of(run)}/names`).data;
  const some = (name) => (names?.[name] || []).filter(Boolean);
  const verdicts = ["right", "wrong", "unparseable", "timeout", "unknown"];
  const now = (query.verdict || "").split(",").filter(Boolean);
  const active = FILTERS.filter((name) => query[name] && !["verdict", "sort", "order"].includes(name)).length;
  return html`<div class="filters"><div class="chips">${verdicts.map((name) => { const on = now.includes(name); return html`<button class=${`tag ${name} ${on ? "on" : ""}`} aria-pressed=${on} onClick=${() => set({ verdict: (on ? now.filter((one) => one !== name) : [...now, name]).join(",") })}>${name}</button>`; })}</div>
    <details open=${active > 0}><summary>Filters${active ? ` (${active})` : ""}</summary><div class="fields">
      <${Choice} name="finish" label="Ended by" values=${some("finish")} query=${query} set=${set} />
      ${table ? "" : html`<${Choice} name="status" label="Status" values=${["ok", ["error", "refused"], "none"]} query=${query} set=${set} />`}
      ${some("model").length > 1 && html`<${Choice} name="model" label="Model" values=${some("model")} query=${query} set=${set} />`}
      ${some("kept").length > 1 && html`<${Choice} name="kept" label="Pruning" values=${["kept", ["pruned", "pruned, for any reason"], ...some("kept").filter((one) => one !== "kept").map((one) => [one, `pruned: ${one}`])]} query=${query} set=${set} />`}
      ${table ? "" : html`<${Choice} name="trained" label="In the training set" values=${["yes", "no"]} query=${query} set=${set} />`}
      <${Range} name="tokens" label="Tokens" query=${query} set=${set} /><${Range} name="score" label="Score" query=${query} set=${set} />
      <label>Answer<input key=${query.answer || ""} defaultValue=${query.answer || ""} onChange=${(event) => set({ answer: event.target.value })} /></label>
      <label>Sorted by<select value=${`${query.sort || ""} ${query.order || ""}`} onChange=${(event) => { const [sort, order] = event.target.value.split(" "); set({ sort, order }); }}>${[["", "", "problem"], ["tokens", "", "longest first"], ["tokens", "asc", "shortest first"], ["score", "", "best score first"], ["score", "asc", "worst score first"]].map(([sort, order, said]) => html`<option value=${`${sort} ${order}`} selected=${(query.sort || "") === sort && (query.order || "") === order}>${said}</option>`)}</select></label>
    </div></details>
    ${query.problem && html`<button class="tag on" onClick=${() => set({ problem: "", index: "" })}>${query.index ? "one sample" : "one problem"} ×</button>`}${query.episode && html`<button class="tag on" onClick=${() => set({ episode: "" })}>episode ${query.episode} ×</button>`}
  </div>`;
};

// Where the page's data comes from: the server beside it, or in a bundle, files. Whatever arrives is data; none of it is
// ever markup.

export const bundled = globalThis.gristmillBundle; // set by bundle.js, in pages that have no server

export class Refused extends Error {}

const wait = (milliseconds, signal) =>
  new Promise((done, fail) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), fail(signal.reason)));
  });

export const address = (path, query = {}) => {
  const said = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== undefined && value !== ""));
  return `/api/${path}${said.size ? `?${said}` : ""}`;
};

/** Ask for a document. As long as the server says that it is making an index, tell `making` and ask again. */
export async function ask(path, query, { signal, making } = {}) {
  if (bundled) return bundled.ask(path, query, { signal });
  for (;;) {
    const answer = await fetch(address(path, query), { signal, credentials: "same-origin" });
    const said = await answer.json().catch(() => ({ error: `the server said ${answer.status}` }));
    if (answer.status === 202) {
      making?.(said.making);
      await wait(400, signal);
    } else if (answer.ok) {
      return said;
    } else {
      throw new Refused(said.error || `the server said ${answer.status}`);
    }
  }
}

let secret = null;

/** Hear whether the page may do anything (--control): the server tells it what to send with that. */
export const allow = (control) => { secret = control; };
export const mayAct = () => Boolean(secret);

/** Have something done; return what the server answers. */
export async function send(path, body) {
  const headers = { "content-type": "application/json", "x-gristmill-control": secret ?? "" };
  const answer = await fetch(address(path), { method: "POST", headers, credentials: "same-origin", body: JSON.stringify(body) });
  const said = await answer.json().catch(() => ({ error: `the server said ${answer.status}` }));
  if (!answer.ok) throw new Refused(said.error || `the server said ${answer.status}`);
  return said;
}

/** Hear a stream of documents until the returned function is called. */
export function hear(path, query, on, onTrouble) {
  if (bundled) return bundled.hear(path, query, on);
  const source = new EventSource(address(path, query));
  source.onmessage = (event) => on(JSON.parse(event.data), source);
  source.onerror = () => onTrouble?.(source);
  return () => source.close();
}

export const of = (run) => `run/${encodeURIComponent(run)}`;

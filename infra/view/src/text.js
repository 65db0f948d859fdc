// What a model wrote, as text or as Markdown with formulas. It is hostile until the sanitiser has seen it.
import DOMPurify from "dompurify";
import katex from "katex";
import { marked } from "marked";
import { useEffect, useRef } from "preact/hooks";
import { html } from "./kit.js";

const ALLOWED_TAGS = [
  ..."p br hr em strong del code pre blockquote ul ol li h1 h2 h3 h4 h5 h6 sub sup".split(" "),
  ..."table thead tbody tr th td".split(" "),
];
const FORMULA = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|(?<![\\$\w])\$(?=\S)([^$\n]{1,600}?)(?<=\S)\$(?![\w$])/g;
const MARK = /\uE000(\d+)\uE001/g;
const LONG = 200_000;

const NAMED = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
marked.use({ renderer: { html: ({ text }) => text.replace(/[&<>"']/g, (one) => NAMED[one]) } }); // tags are shown, not obeyed

/** Return a fragment of Markdown with formulas: elements of a short list, without a single attribute of the text's. */
export function rendered(text) {
  const formulas = [];
  const plain = text.replace(/[\uE000\uE001]/g, "").replace(FORMULA, (all, wide, wider, inline, dollar) => {
    formulas.push({ tex: wide ?? wider ?? inline ?? dollar, wide: wide !== undefined || wider !== undefined, all });
    return `\uE000${formulas.length - 1}\uE001`;
  });
  const fragment = DOMPurify.sanitize(marked.parse(plain, { async: false, gfm: true, breaks: true }), {
    ALLOWED_TAGS,
    ALLOWED_ATTR: [],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) if (/\uE000/.test(walker.currentNode.data)) texts.push(walker.currentNode);
  for (const node of texts) {
    const literal = node.parentElement?.closest("code, pre");
    const pieces = node.data.split(MARK);
    node.replaceWith(
      ...pieces.map((piece, at) => {
        const formula = at % 2 ? formulas[Number(piece)] : null;
        if (at % 2 === 0) return piece;
        return formula && !literal ? typeset(formula) : (formula?.all ?? "");
      }),
    );
  }
  return fragment;
}

function typeset({ tex, wide, all }) {
  const place = document.createElement("span");
  try {
    katex.render(tex, place, { displayMode: wide, throwOnError: true, trust: false, maxExpand: 200, maxSize: 20, output: "html", strict: "ignore" });
  } catch {
    place.textContent = all;
    place.className = "formula";
  }
  return place;
}

export const Text = ({ text, raw }) => {
  const place = useRef(null);
  const plain = raw || text.length > LONG;
  useEffect(() => {
    if (plain) return;
    try {
      place.current.replaceChildren(rendered(text));
    } catch {
      place.current.textContent = text;
    }
  }, [text, plain]);
  if (text === "") return html`<p class="quiet">(empty)</p>`;
  return plain ? html`<pre class="text" key="raw">${text}</pre>` : html`<div class="text markdown" key="rendered" ref=${place}></div>`;
};

"use strict";
(() => {
  const problems = JSON.parse(document.getElementById("samples").textContent);
  const search = document.getElementById("search");
  const list = document.getElementById("list");
  const found = document.getElementById("found");
  const detail = document.getElementById("detail");
  const whole = new Intl.NumberFormat("en");
  let current = null;

  // Text enters the page as text nodes only.
  const make = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const share = (right, judged) => `${((100 * right) / judged).toFixed(right === judged || right === 0 ? 0 : 1)}%`;
  const pair = (name, value, aside) =>
    make("div", "", make("dt", "", name), make("dd", "", value, aside ? make("small", "", aside) : null));

  const sample = (row) => {
    const facts = [`sample ${row.i}`, `${whole.format(row.tokens)} tokens`];
    if (row.finish !== "stop") facts.push(`finish: ${row.finish}`);
    if (row.verdict && row.verdict !== "ok") facts.push(row.verdict);
    const head = make("header", "", row.said === null ? null : make("b", "", row.said));
    head.append(...facts.map((fact) => make("span", "", fact)));
    const node = make("div", "sample", head);
    if (row.reasoning) node.append(make("details", "", make("summary", "", "Reasoning"), make("pre", "", row.reasoning)));
    node.append(make("pre", "", row.text === "" ? "(empty)" : row.text));
    return node;
  };

  const side = (className, title, rows, total) => {
    const counted = total === null ? `${rows.length}` : `${rows.length} of ${whole.format(total)}`;
    const node = make("div", `side ${className}`, make("h4", "", `${title} `, make("span", "", counted)));
    node.append(...(rows.length ? rows.map(sample) : [make("p", "sample none", "None.")]));
    return node;
  };

  const call = (node) => {
    const line = [make("code", "", node.call)];
    if (node.score !== null) line.push(make("b", "", node.score.toFixed(3)));
    if (node.role !== "policy") line.push(make("span", "role", node.role));
    line.push(make("span", "said", node.text.replace(/\s+/g, " ").trim().slice(0, 120)));
    if (node.rows.length) line.push(make("em", "", `row ${node.rows.join(", ")}${node.chosen ? ", chosen" : ""}`));
    const kind = node.chosen ? "chosen" : node.kept ? "" : "pruned";
    const children = node.children.map(call);
    return make(
      "li",
      kind,
      make("details", "", make("summary", "", ...line), make("pre", "", node.text)),
      children.length ? make("ul", "", ...children) : null,
    );
  };

  const episode = (played) => {
    const facts = [
      `${whole.format(played.calls)} calls`,
      `${whole.format(played.prompt_tokens)} tokens read`,
      `${whole.format(played.completion_tokens)} written`,
    ];
    if (played.scorer_passes) facts.push(`${whole.format(played.scorer_passes)} scores`);
    const title = `Episode ${played.episode}: ${played.strategy}, ended by ${played.ended_by}; ${facts.join(", ")}`;
    return make("details", "episode", make("summary", "", title), make("ul", "calls", ...played.tree.map(call)));
  };

  const show = (problem) => {
    current = problem;
    const judged = problem.judged > 0;
    const tally = judged
      ? `${whole.format(problem.right)} of ${whole.format(problem.judged)} judged samples are right, ${share(problem.right, problem.judged)}`
      : "No verdicts";
    const answers = make("dl", "answers");
    if (problem.answer !== null) answers.append(pair("Expected answer", problem.answer));
    if (problem.method) {
      const mark = problem.correct === null ? "" : problem.correct ? "right, " : "wrong, ";
      const votes = `${mark}${(100 * problem.confidence).toFixed(0)}% of ${whole.format(problem.n)} samples`;
      const name = problem.method[0].toUpperCase() + problem.method.slice(1);
      answers.append(pair(`${name} answer`, problem.selected === null ? "none" : problem.selected, votes));
    }
    const of = (verdict) => problem.samples.filter((row) => row.correct === verdict);
    const sides = make("div", "sides");
    if (judged) sides.append(side("right", "Right", of(true), problem.right));
    if (judged) sides.append(side("wrong", "Wrong", of(false), problem.judged - problem.right));
    const rest = of(null).length ? make("div", "sides", side("", "Undecided", of(null), null)) : null;
    detail.replaceChildren(
      make("h3", "top", problem.id),
      make("p", "tally", tally),
      ...(problem.prompt === null ? [] : [make("pre", "prompt", problem.prompt)]),
      answers,
      sides,
      ...(rest ? [rest] : []),
      ...(problem.episode ? [episode(problem.episode)] : []),
    );
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-current", String(button.dataset.key === problem.key));
    }
  };

  const entry = (problem) => {
    const judged = problem.judged > 0;
    const said = judged ? share(problem.right, problem.judged) : "";
    const line = make("span", "line", make("span", "name", problem.id), make("span", "rate", said));
    const fill = make("i", "");
    fill.style.width = judged ? `${(100 * problem.right) / problem.judged}%` : "0";
    const button = make("button", "", line, judged ? make("span", "meter", fill) : null);
    button.type = "button";
    button.dataset.key = problem.key;
    button.addEventListener("click", () => show(problem));
    return make("li", "", button);
  };

  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    const fits = (problem) => [problem.id, problem.prompt, problem.answer].some((text) => text && text.toLowerCase().includes(wanted));
    const kept = problems.filter((problem) => wanted === "" || fits(problem));
    list.replaceChildren(...kept.map(entry));
    found.textContent = `${kept.length} ${kept.length === 1 ? "problem" : "problems"}`;
    if (kept.length && !kept.includes(current)) show(kept[0]);
    else if (current) show(current);
  };

  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = [...list.querySelectorAll("button")];
    const next = step && buttons[buttons.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  });
  search.addEventListener("input", filter);
  document.getElementById("browser").hidden = false;
  filter();
})();

/* Every cell in a table that sorts and filters. */

const sorting = { key: "metric", down: null };
const FEW_ROWS = 400;

function columns() {
  const main = metric();
  const others = run.metrics.filter((one) => one.name !== main.name);
  const cost = (key) => (cell) => (cell.costs || {})[key];
  return [
    {
      key: "metric",
      title: main.title,
      of: (cell) => value(cell),
      text: (cell) => (done(cell) ? withInterval(figure(cell)) : "failed"),
      lower: main.lower,
    },
    {
      key: "tied",
      title: "ties",
      of: (cell) => ({ best: 2, yes: 1 })[tied(cell)] || 0,
      text: (cell) => ({ best: "* best", yes: "= tied" })[tied(cell)] || "",
    },
    {
      key: "gain",
      title: "gain over cosine",
      of: (cell) => (gain(cell) || [null])[0],
      text: (cell) => withInterval(gain(cell), signed),
    },
    {
      key: "validation",
      title: "on validation",
      of: (cell) => (cell.validation || {})[main.name],
      text: (cell) => decimals((cell.validation || {})[main.name]),
      lower: main.lower,
    },
    ...others.map((one) => ({
      key: one.name,
      title: one.title,
      of: (cell) => value(cell, one.name),
      text: (cell) => decimals(value(cell, one.name)),
      lower: one.lower,
    })),
    {
      key: "vectorize_s",
      title: "vectorize",
      of: cost("vectorize_s"),
      text: (cell) => seconds(cost("vectorize_s")(cell)),
      lower: true,
    },
    {
      key: "project_s",
      title: "project",
      of: cost("project_s"),
      text: (cell) => seconds(cost("project_s")(cell)),
      lower: true,
    },
    {
      key: "fit_s",
      title: "fit",
      of: cost("fit_s"),
      text: (cell) => seconds(cost("fit_s")(cell)),
      lower: true,
    },
    {
      key: "score_s",
      title: "score",
      of: cost("score_s"),
      text: (cell) => seconds(cost("score_s")(cell)),
      lower: true,
    },
    {
      key: "memory",
      title: "memory, MB",
      of: cost("peak_memory_mb"),
      text: (cell) => whole(cost("peak_memory_mb")(cell)),
      lower: true,
    },
    {
      key: "features",
      title: "features",
      of: (cell) => cell.n_features,
      text: (cell) => whole(cell.n_features),
      lower: true,
    },
    {
      key: "seeds",
      title: "seeds",
      of: (cell) => cell.n_seeds,
      text: (cell) => whole(cell.n_seeds),
    },
  ];
}

function drawCells() {
  const section = byId("cells");
  heading(
    section,
    "All cells",
    "Choose a column's title to sort by it, and again to reverse the order. Costs are for one seed.",
  );
  const choice = (id, label, values) =>
    make(
      "label",
      {},
      make("span", {}, label),
      make(
        "select",
        { id, change: fillTable },
        make("option", { value: "" }, "all"),
        [...new Set(values)].map((one) => make("option", { value: one }, one)),
      ),
    );
  section.append(
    make(
      "div",
      { class: "controls" },
      make(
        "label",
        { class: "wide" },
        make("span", {}, "words"),
        make("input", {
          type: "search",
          id: "words",
          input: fillTable,
          placeholder: "dot xgboost",
          autocomplete: "off",
        }),
      ),
      choice(
        "only-vectorizer",
        "vectorizer",
        cells.map((cell) => cell.vectorizer),
      ),
      choice(
        "only-head",
        "head",
        cells.map((cell) => cell.head),
      ),
      make(
        "label",
        { class: "check" },
        make("input", { type: "checkbox", id: "only-ties", change: fillTable }),
        " best and ties only",
      ),
      make("span", { class: "soft small", id: "count", role: "status" }),
    ),
    make(
      "div",
      {
        class: "scroll framed tall",
        tabindex: "0",
        role: "region",
        "aria-label": "Table of all cells",
      },
      make(
        "table",
        { class: "all" },
        make("caption", { class: "aloud" }, "All cells with their figures and costs"),
        make("thead"),
        make("tbody"),
      ),
    ),
  );
  offerCsv(section, () => `${run.title}-cells`, cellRows);
  fillTable();
}

/* The cells that the filters leave, in their order, with every figure. */
function cellRows() {
  const names = ["vectorizer", "projection", "merge", "head", "name", "status", "error"];
  const ends = ["", "_low", "_high"];
  const three = (of) => ends.map((_, at) => (of || [])[at]);
  const costs = ["vectorize_s", "project_s", "fit_s", "score_s", "peak_memory_mb"];
  const sizes = ["n_features", "n_seeds", "threshold"];
  return [
    [
      ...names,
      ...run.metrics.flatMap((one) => ends.map((end) => one.name + end)),
      ...ends.map((end) => `${chosen.metric}_gain${end}`),
      `${chosen.metric}_validation`,
      "tied_with_best",
      ...costs,
      ...sizes,
    ],
    ...sortedCells(wantedCells(), columns()).map((index) => {
      const cell = cells[index];
      return [
        ...names.map((name) => cell[name]),
        ...run.metrics.flatMap((one) => three(figure(cell, one.name))),
        ...three(gain(cell)),
        (cell.validation || {})[chosen.metric],
        done(cell) ? tied(cell) : "",
        ...costs.map((name) => (cell.costs || {})[name]),
        ...sizes.map((name) => cell[name]),
      ];
    }),
  ];
}

function sortedBy(key) {
  const column = columns().find((one) => one.key === key);
  if (sorting.key === key)
    sorting.down = !(sorting.down === null ? !column?.lower : sorting.down);
  else Object.assign(sorting, { key, down: key === "name" ? false : null });
  fillTable();
  byId("cells").querySelector(`[data-sort="${key}"]`).focus();
}

function sortedCells(indices, list) {
  const column = list.find((one) => one.key === sorting.key);
  const down = sorting.down === null ? !column?.lower : sorting.down;
  const key = column
    ? (index) => column.of(cells[index])
    : (index) => cellName(cells[index]).toLowerCase();
  const missing = (one) => one === null || one === undefined;
  return [...indices].sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    if (missing(left) || missing(right)) return missing(left) - missing(right);
    return (down ? -1 : 1) * (left > right ? 1 : left < right ? -1 : 0);
  });
}

function wantedCells() {
  const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const vectorizer = byId("only-vectorizer").value;
  const head = byId("only-head").value;
  const ties = byId("only-ties").checked;
  return [...cells.keys()].filter((index) => {
    const cell = cells[index];
    const said =
      `${cellName(cell)} ${cellName(cell, true)} ${cell.status} ${index === run.chosen ? "chosen" : ""}`.toLowerCase();
    if ((vectorizer && cell.vectorizer !== vectorizer) || (head && cell.head !== head))
      return false;
    if (ties && tied(cell) === "no") return false;
    return words.every((word) => said.includes(word));
  });
}

function fillTable() {
  const list = columns();
  const table = byId("cells").querySelector("table.all");
  const shown = sortedCells(wantedCells(), list);
  const column = list.find((one) => one.key === sorting.key);
  const down = sorting.down === null ? !column?.lower : sorting.down;
  const title = (key, text, kind) => {
    const here = sorting.key === key;
    const arrow = make(
      "span",
      { class: "arrow", "aria-hidden": "true" },
      here ? (down ? "▼" : "▲") : "",
    );
    const button = make(
      "button",
      { class: "plain", "data-sort": key, click: () => sortedBy(key) },
      text,
      " ",
      arrow,
    );
    return make(
      "th",
      {
        scope: "col",
        class: kind,
        "aria-sort": here ? (down ? "descending" : "ascending") : null,
      },
      button,
    );
  };
  table.tHead.replaceChildren(
    make(
      "tr",
      {},
      title("name", "cell", ""),
      list.map((one) => title(one.key, one.title, "number")),
    ),
  );
  table.tBodies[0].replaceChildren(
    ...shown.slice(0, FEW_ROWS).map((index) => tableRow(index, list)),
  );
  const cut = shown.length > FEW_ROWS ? `, the first ${FEW_ROWS} shown` : "";
  byId("count").textContent =
    `${whole(shown.length)} of ${plural(cells.length, "cell")}${cut}`;
}

function tableRow(index, list) {
  const cell = cells[index];
  const badge =
    index === run.chosen ? [" ", make("span", { class: "badge main" }, "chosen")] : [];
  return make(
    "tr",
    {
      class:
        `${done(cell) ? "" : "failed"} ${index === chosen.cell ? "here" : ""}`.trim(),
      "data-cell": index,
    },
    make("th", { scope: "row" }, cellLink(index), badge),
    list.map((one) => make("td", { class: "number" }, one.text(cell))),
  );
}

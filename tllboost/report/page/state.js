/* The run, and what is chosen on the page: a metric and a cell. */

const run = JSON.parse(byId("data").textContent);
run.cells = run.cells || [];
run.metrics = run.metrics || [];
const cells = run.cells;
const chosen = { metric: run.metric || (run.metrics[0] || {}).name, cell: null };
const watchers = { metric: [], cell: [] };
const legend = (run.matrix || {}).legend || [];
const shortNames = new Map(legend.map(([short, long]) => [long, short]));
const longNames = new Map(legend);

function whenChosen(what, draw) {
  watchers[what].push(draw);
}

function choose(what, value) {
  chosen[what] = value;
  watchers[what].forEach((redraw) => redraw());
}

function metric() {
  return (
    run.metrics.find((one) => one.name === chosen.metric) || { name: "", title: "" }
  );
}

function done(cell) {
  return cell.status === "ok";
}

function figure(cell, name = chosen.metric) {
  return (done(cell) && (cell.figures || {})[name]) || null;
}

function value(cell, name = chosen.metric) {
  const found = figure(cell, name);
  return found && given(found[0]) ? found[0] : null;
}

function gain(cell, name = chosen.metric) {
  return (done(cell) && (cell.gain || {})[name]) || null;
}

/* The gain over the best plain cosine of the run. */
function over(cell, name = chosen.metric) {
  return (done(cell) && (cell.over || {})[name]) || null;
}

/* Whether an interval of a gain leaves zero out. */
function isSure(won) {
  return Boolean(won) && given(won[1]) && (won[1] > 0 || won[2] < 0);
}

function bestCosine() {
  const plain = (index) => isBaseline(cells[index]) && value(cells[index]) !== null;
  return cells[bestFirst(cells.keys()).find(plain)] || null;
}

function tied(cell, name = chosen.metric) {
  return (cell.tied || {})[name] || "no";
}

/* Best first in the metric, whichever way it runs; what has no value comes last. */
function bestFirst(indices, name = chosen.metric) {
  const way = (run.metrics.find((one) => one.name === name) || {}).lower ? 1 : -1;
  const key = (index) => value(cells[index], name);
  return [...indices].sort((a, b) => {
    if (key(a) === null || key(b) === null)
      return (key(a) === null) - (key(b) === null);
    return way * (key(a) - key(b));
  });
}

/* The untrained cosine that a cell has to beat: of its own vectors, or the best there is
   for an ensemble, whose vectors are many. */
function cosineOf(cell) {
  const plain = bestFirst(cells.keys())
    .map((index) => cells[index])
    .filter((one) => isBaseline(one) && done(one));
  return plain.find((one) => one.vectorizer === cell.vectorizer) || plain[0] || null;
}

function isBaseline(cell) {
  return cell.head === "cosine" && cell.projection === "none";
}

function tieWords(cell) {
  const state = tied(cell);
  if (state === "best") return "best of all on the test images";
  return state === "yes" ? "tied with the best at 95\u00a0%" : "";
}

function mark(cell) {
  return { best: "*", yes: "=" }[tied(cell)] || "";
}

/* A list of all cells to choose from, by vectorizer. */
function cellSelect(id) {
  const vectorizers = [...new Set(cells.map((cell) => cell.vectorizer))];
  const choices = vectorizers.map((vectorizer) => {
    const mine = [...cells.keys()].filter(
      (index) => cells[index].vectorizer === vectorizer,
    );
    return make(
      "optgroup",
      { label: vectorizer },
      mine.map((index) => make("option", { value: index }, cellName(cells[index]))),
    );
  });
  const select = make(
    "select",
    { id, change: () => choose("cell", Number(select.value)) },
    choices,
  );
  whenChosen("cell", () => (select.value = chosen.cell));
  return make(
    "div",
    { class: "controls" },
    make("label", { class: "wide" }, make("span", {}, "cell"), select),
  );
}

/* A cell's name, that leads to its plots. */
function cellLink(index) {
  const cell = cells[index];
  const [short, full] = [cellName(cell), cellName(cell, true)];
  return make(
    "button",
    {
      class: "plain",
      title: full === short ? null : full,
      click: () => openCell(index),
    },
    short,
  );
}

/* Show a cell's own plots, where the user may have come from far away. */
function openCell(index) {
  choose("cell", index);
  byId("cell").scrollIntoView();
  byId("cell-title").focus({ preventScroll: true });
}

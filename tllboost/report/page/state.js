/* The run, and what is chosen on the page: a metric and a cell. */

const run = JSON.parse(byId("data").textContent);
run.cells = run.cells || [];
run.metrics = run.metrics || [];
const cells = run.cells;
const chosen = { metric: run.metric || (run.metrics[0] || {}).name, cell: null };
const watchers = { metric: [], cell: [] };

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

/* Show a cell's own plots, where the user may have come from far away. */
function openCell(index) {
  choose("cell", index);
  byId("cell").scrollIntoView();
  byId("cell-title").focus({ preventScroll: true });
}

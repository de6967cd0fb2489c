/* The matrix as a heat map. Colour only repeats what the numbers and marks say. */

const STEPS = 9;
const MANY_ROWS = 24;
const MANY_LOST = 3;

function drawMatrix() {
  const { heads } = run.matrix;
  const order = grouping(run.matrix.rows);
  const section = byId("matrix");
  heading(
    section,
    "The matrix",
    "A row is a vectorizer, with its projection and merge if it has them; a column is a head. ",
    "* is the best on the test images, = ties with it at 95\u00a0%. ",
    "Hover or move with the arrow keys for intervals; choose a number for its plots.",
  );
  const legend = make("div", { class: "legend small", id: "legend" });
  const corner = make(
    "th",
    { scope: "col", class: "corner" },
    "vectorizer · projection · merge",
  );
  const top = heads.map((head) => make("th", { scope: "col" }, head));
  const body = order.map((at, place) => {
    const row = run.matrix.rows[at];
    const begins = place === 0 || run.matrix.rows[order[place - 1]][0] !== row[0];
    const name = make(
      "th",
      { scope: "row" },
      make(
        "span",
        { class: begins ? "vectorizer" : "vectorizer again" },
        breakable(row[0]),
      ),
      ...parts(row[1], row[2]).map((part) => make("span", {}, " · ", breakable(part))),
    );
    const places = heads.map((_, across) => matrixPlace(at, across, place));
    const kind = [begins ? "begins" : "", isLost(at) ? "lost" : ""].join(" ").trim();
    return make("tr", { class: kind }, name, places);
  });
  const table = make(
    "table",
    { class: "heat", role: "grid", keydown: moveInMatrix },
    make("caption", { class: "aloud", id: "matrix-caption" }),
    make("thead", {}, make("tr", {}, corner, top)),
    make("tbody", {}, body),
  );
  const long = order.length > MANY_ROWS;
  table.classList.toggle("sticky", long);
  section.append(
    legend,
    make("div", { class: long ? "scroll framed tallest" : "scroll framed" }, table),
    ...lostSwitch(table),
    folded("Short names", run.matrix.legend) || "",
  );
  colourMatrix();
  const first = [...table.querySelectorAll("button")].find((one) =>
    one.checkVisibility(),
  );
  if (first) first.tabIndex = 0;
}

/* Rows of one vectorizer stand together, in the order in which they first came. */
function grouping(rows) {
  const first = (at) => rows.findIndex((row) => row[0] === rows[at][0]);
  return [...rows.keys()].sort((a, b) => first(a) - first(b) || a - b);
}

/* A row in which every cell failed. */
function isLost(at) {
  const found = run.matrix.places[at].filter((index) => cells[index]);
  return found.length > 0 && found.every((index) => !done(cells[index]));
}

/* Many lost rows would bury the others: they come when asked for. */
function lostSwitch(table) {
  const lost = table.querySelectorAll("tr.lost").length;
  if (lost <= MANY_LOST || lost === run.matrix.rows.length) return [];
  table.classList.add("many");
  const box = make("input", {
    type: "checkbox",
    id: "show-lost",
    change: () => table.classList.toggle("many", !box.checked),
  });
  return [
    make(
      "label",
      { class: "small after" },
      box,
      ` show ${whole(lost)} rows in which every cell failed`,
    ),
  ];
}

function matrixPlace(at, across, place) {
  const index = run.matrix.places[at][across];
  if (index === null || index === undefined) return make("td", { class: "empty" });
  const button = make("button", {
    "data-cell": index,
    "data-row": place,
    "data-column": across,
    tabindex: "-1",
    click: () => openCell(index),
  });
  giveTip(button, () => tipLines(cells[index]));
  return make("td", {}, button);
}

function colourMatrix() {
  const buttons = [...document.querySelectorAll(".heat button")];
  const values = buttons
    .map((button) => value(cells[button.dataset.cell]))
    .filter(given);
  const [low, high] = values.length
    ? [Math.min(...values), Math.max(...values)]
    : [0, 1];
  const { title, lower, what } = metric();
  for (const button of buttons) {
    const cell = cells[button.dataset.cell];
    const share = high > low ? (value(cell) - low) / (high - low) : 0.5;
    const step = Math.min(STEPS - 1, Math.floor((lower ? 1 - share : share) * STEPS));
    const found = value(cell) !== null;
    button.className = found ? `h${step}` : done(cell) ? "nothing" : "failed";
    button.replaceChildren(
      done(cell) ? decimals(value(cell)) : "failed",
      make("span", { class: "mark", "aria-hidden": "true" }, mark(cell)),
    );
    button.setAttribute("aria-label", cellLabel(cell));
    if (tied(cell) === "best" && found) button.classList.add("best");
  }
  byId("matrix-caption").textContent = `${title} of every cell`;
  drawLegend(low, high, lower, title, what);
}

function drawLegend(low, high, lower, title, what) {
  const steps = [...Array(STEPS).keys()].map((step) =>
    make("i", { class: `h${step}` }),
  );
  byId("legend").replaceChildren(
    make(
      "span",
      {},
      make("b", {}, title),
      what ? `: ${what}` : "",
      lower ? " (lower is better)" : "",
    ),
    make(
      "span",
      { class: "scale" },
      decimals(lower ? high : low),
      make("span", { class: "steps", "aria-hidden": "true" }, steps),
      `${decimals(lower ? low : high)} better`,
    ),
  );
}

function cellLabel(cell) {
  if (!done(cell)) return `${cellName(cell)}: failed`;
  const found = figure(cell);
  const range =
    found && given(found[1])
      ? `, from ${decimals(found[1])} to ${decimals(found[2])}`
      : "";
  return [`${cellName(cell)}: ${decimals(value(cell))}${range}`, tieWords(cell)]
    .filter(Boolean)
    .join(", ");
}

function tipLines(cell) {
  if (!done(cell)) return [cellName(cell), "failed", cell.error];
  const won = gain(cell);
  const validation = (cell.validation || {})[chosen.metric];
  return [
    cellName(cell),
    `${metric().title} ${withInterval(figure(cell))}`,
    won &&
      !isBaseline(cell) &&
      given(won[0]) &&
      `over the cosine ${withInterval(won, signed)}`,
    given(validation) && `on validation ${decimals(validation)}`,
    tieWords(cell),
    cells.indexOf(cell) === run.chosen && "chosen on validation",
  ];
}

/* One stop of the Tab key for the whole matrix; arrows move inside. */
function moveInMatrix(event) {
  const from = event.target.closest("button");
  const ways = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    Home: [0, -Infinity],
    End: [0, Infinity],
  };
  if (!from || !ways[event.key] || event.ctrlKey || event.altKey || event.metaKey)
    return;
  event.preventDefault();
  const [down, across] = ways[event.key];
  const row = Number(from.dataset.row);
  const column = Number(from.dataset.column);
  const all = [...document.querySelectorAll(".heat button")].filter((one) =>
    one.checkVisibility(),
  );
  const line = all.filter((one) =>
    down ? Number(one.dataset.column) === column : Number(one.dataset.row) === row,
  );
  const at = line.indexOf(from);
  const to = line[Math.max(0, Math.min(line.length - 1, at + (down || across)))];
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
  to.scrollIntoView({ block: "nearest", inline: "nearest" });
}

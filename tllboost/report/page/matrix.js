/* The matrix as a heat map. A colour is the gain over the best plain cosine: none where
   its interval includes zero, and full at LEAST_END or more, so that noise stays pale. */

const SIDE = 4; // steps of colour on either side of none
const LEAST_END = 0.1;
const MANY_ROWS = 24;
const MANY_LOST = 3;
const FEW_SHORT = 8;

function drawMatrix() {
  const { heads } = run.matrix;
  const order = grouping(run.matrix.rows);
  const section = byId("matrix");
  heading(
    section,
    "The matrix",
    "A row is a vectorizer, with its projection and merge if it has them; a column is a head. ",
    "* is the best on the test images, = ties with it at 95\u00a0%. ",
    "A colour is the difference from the best plain cosine; grey may be chance. ",
    "Hover or move with the arrow keys for intervals; choose a number for its plots.",
  );
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
    make("div", { class: "legend small", id: "legend" }),
    make("div", { class: long ? "scroll framed tallest" : "scroll framed" }, table),
    ...lostSwitch(table),
    folded("Short names", legend, legend.length <= FEW_SHORT) || "",
  );
  offerCsv(section, () => `${run.title}-matrix-${chosen.metric}`, matrixRows);
  colourMatrix();
  const first = [...table.querySelectorAll("button")].find((one) =>
    one.checkVisibility(),
  );
  if (first) first.tabIndex = 0;
}

/* As matrix.csv has it: names in full. */
function matrixRows() {
  const full = (name) => longNames.get(name) || name;
  const field = (cell) => (!cell ? "" : done(cell) ? value(cell) : "failed");
  return [
    ["vectorizer", "projection", "merge", ...run.matrix.heads.map(full)],
    ...run.matrix.rows.map((row, at) => [
      ...row.map(full),
      ...run.matrix.places[at].map((index) => field(cells[index])),
    ]),
  ];
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
  const sure = cells.map((cell) => over(cell)).filter(isSure);
  const end = Math.max(LEAST_END, ...sure.map(([middle]) => Math.abs(middle)));
  const { title, lower, what } = metric();
  for (const button of buttons) {
    const cell = cells[button.dataset.cell];
    const found = value(cell) !== null;
    button.className = found ? `h${heatOf(cell, end)}` : done(cell) ? "nothing" : "failed";
    button.replaceChildren(
      done(cell) ? decimals(value(cell)) : "failed",
      make("span", { class: "mark", "aria-hidden": "true" }, mark(cell)),
    );
    button.setAttribute("aria-label", cellLabel(cell));
    if (tied(cell) === "best" && found) button.classList.add("best");
  }
  byId("matrix-caption").textContent = `${title} of every cell`;
  drawLegend(end, lower, title, what);
}

/* From 0, far below the best plain cosine, to twice SIDE; SIDE where nobody can tell. */
function heatOf(cell, end) {
  const won = over(cell);
  if (!isSure(won)) return SIDE;
  const steps = Math.ceil((Math.abs(won[0]) / end) * SIDE);
  return SIDE + Math.sign(won[1]) * Math.max(1, Math.min(SIDE, steps));
}

function drawLegend(end, lower, title, what) {
  const steps = [...Array(2 * SIDE + 1).keys()].map((step) =>
    make("i", { class: `h${step}` }),
  );
  const plain = bestCosine();
  const said = plain
    ? `than ${decimals(value(plain))}, the best plain cosine (${plain.vectorizer})`
    : "no colours: the run has no plain cosine";
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
      plain && `${decimals(end, 2)} worse`,
      plain && make("span", { class: "steps", "aria-hidden": "true" }, steps),
      plain && `${decimals(end, 2)} better`,
      make("span", { class: "than" }, said),
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
  const [won, best] = [gain(cell), bestCosine()];
  const validation = (cell.validation || {})[chosen.metric];
  return [
    cellName(cell),
    `${metric().title} ${withInterval(figure(cell))}`,
    best &&
      best !== cell &&
      given((over(cell) || [])[0]) &&
      `over the best plain cosine ${withInterval(over(cell), signed)}`,
    won &&
      !isBaseline(cell) &&
      given(won[0]) &&
      cell.vectorizer !== (best || cell).vectorizer &&
      `over its own cosine ${withInterval(won, signed)}`,
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

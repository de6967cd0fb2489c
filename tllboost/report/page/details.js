/* One cell: its figures, and how its scores fall. */

function drawCell() {
  const section = byId("cell");
  heading(
    section,
    "One cell",
    "Its figures, and its scores on the test set beside those of the plain cosine, which needs no training.",
  );
  byId("cell-title").tabIndex = -1;
  section.append(cellSelect("which"), make("div", { id: "details" }));
}

function fillCell() {
  const cell = cells[chosen.cell];
  if (!cell) return;
  for (const one of document.querySelectorAll("[data-cell]"))
    one.classList.toggle("here", Number(one.dataset.cell) === chosen.cell);
  byId("details").replaceChildren(
    make("h3", { class: "cell-name" }, breakable(cellName(cell, true)), " ", badges(cell)),
    ...(done(cell)
      ? [figureTiles(cell), costLine(cell), featureGains(cell), ...charts(cell)]
      : [
          make(
            "p",
            { class: "card" },
            make("b", {}, "failed: "),
            cell.error || "no reason was kept",
          ),
        ]),
  );
}

function badges(cell) {
  return [
    cells.indexOf(cell) === run.chosen &&
      make("span", { class: "badge main" }, "chosen on validation"),
    tied(cell) === "best" && make("span", { class: "badge" }, "* best on test"),
    tied(cell) === "yes" && make("span", { class: "badge" }, "= tied with the best"),
  ]
    .filter(Boolean)
    .flatMap((one) => [one, " "]);
}

function figureTiles(cell) {
  const tiles = run.metrics.map((one) => {
    const won = gain(cell, one.name);
    const over =
      won && given(won[0]) && !isBaseline(cell)
        ? `${signed(won[0])} over its cosine`
        : "";
    return make(
      "div",
      { class: one.name === chosen.metric ? "figure here" : "figure", title: one.what },
      make("div", { class: "label" }, one.title),
      make(
        "div",
        { class: "number" },
        make("b", {}, decimals(value(cell, one.name))),
        " ",
        make("span", { class: "soft small" }, between(figure(cell, one.name))),
      ),
      make("div", { class: "soft small number" }, over),
    );
  });
  return make("div", { class: "figures" }, tiles);
}

function costLine(cell) {
  const costs = cell.costs || {};
  const said = [
    ["vectorize", seconds(costs.vectorize_s)],
    ["project", seconds(costs.project_s)],
    ["fit", seconds(costs.fit_s)],
    ["score", seconds(costs.score_s)],
    [
      "peak memory",
      given(costs.peak_memory_mb) ? `${whole(costs.peak_memory_mb)} MB` : NONE,
    ],
    ["features", whole(cell.n_features)],
    ["threshold", decimals(cell.threshold)],
  ];
  const words = said
    .filter(([, text]) => text !== NONE)
    .map(([label, text]) => `${label} ${text}`);
  return make("p", { class: "soft small number" }, words.join(" · "));
}

/* Which features the trees of a cell gained by: names, and shares of the whole gain. */
function featureGains(cell) {
  const rows = cell.feature_gain || [];
  return rows.length
    ? make(
        "details",
        { class: "small" },
        make("summary", {}, "What the trees gained by, beyond what they start from"),
        make(
          "ol",
          {},
          rows.map(([name, share]) =>
            make("li", {}, `${(100 * share).toFixed(1)} % `, breakable(name)),
          ),
        ),
      )
    : "";
}

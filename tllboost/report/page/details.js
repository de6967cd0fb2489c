/* One cell: its figures, and how its scores fall. */

const READING = [
  "Top k and ROC: the higher the line, the better. Precision and recall: the farther to the upper right.",
  "Reliability: of the pairs given a probability of 0.8, eight in ten should match. Points below the dotted line say too much.",
  "Scores: the less matches and non-matches overlap, the better. Pairs right of the threshold, set on validation, count as matches.",
];

const UNIT = { domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1] };

function drawCell() {
  const section = byId("cell");
  heading(section, "One cell", "Its figures and how its scores fall on the test side, beside a plain cosine, which learns nothing.");
  byId("cell-title").tabIndex = -1;
  const vectorizers = [...new Set(cells.map((cell) => cell.vectorizer))];
  const choices = vectorizers.map((vectorizer) => {
    const mine = [...cells.keys()].filter((index) => cells[index].vectorizer === vectorizer);
    return make("optgroup", { label: vectorizer }, mine.map((index) => make("option", { value: index }, cellName(cells[index]))));
  });
  const select = make("select", { id: "which", change: () => choose("cell", Number(select.value)) }, choices);
  section.append(
    make("div", { class: "controls" }, make("label", { class: "wide" }, make("span", {}, "cell"), select)),
    make("div", { id: "details" }),
  );
}

function fillCell() {
  const cell = cells[chosen.cell];
  if (!cell) return;
  byId("which").value = chosen.cell;
  for (const one of document.querySelectorAll("[data-cell]"))
    one.classList.toggle("here", Number(one.dataset.cell) === chosen.cell);
  byId("details").replaceChildren(
    make("h3", { class: "cell-name" }, cellName(cell), " ", badges(cell)),
    ...(done(cell) ? [figureTiles(cell), costLine(cell), ...charts(cell)] : [make("p", { class: "card" }, make("b", {}, "failed: "), cell.error || "no reason was kept")]),
  );
}

function badges(cell) {
  return [
    cells.indexOf(cell) === run.chosen && make("span", { class: "badge main" }, "chosen on validation"),
    tied(cell) === "best" && make("span", { class: "badge" }, "* best on test"),
    tied(cell) === "yes" && make("span", { class: "badge" }, "= tied with the best"),
  ].filter(Boolean).flatMap((one) => [one, " "]);
}

function figureTiles(cell) {
  const tiles = run.metrics.map((one) => {
    const won = gain(cell, one.name);
    const over = won && given(won[0]) && !isBaseline(cell) ? `${signed(won[0])} over cosine` : "";
    return make(
      "div",
      { class: one.name === chosen.metric ? "figure here" : "figure", title: one.what },
      make("div", { class: "label" }, one.title),
      make("div", { class: "number" }, make("b", {}, decimals(value(cell, one.name))), " ", make("span", { class: "soft small" }, between(figure(cell, one.name)))),
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
    ["peak memory", given(costs.peak_memory_mb) ? `${whole(costs.peak_memory_mb)} MB` : NONE],
    ["features", whole(cell.n_features)],
    ["threshold", decimals(cell.threshold)],
  ];
  const words = said.filter(([, text]) => text !== NONE).map(([label, text]) => `${label} ${text}`);
  return make("p", { class: "soft small number" }, words.join(" · "));
}

function charts(cell) {
  const curves = cell.curves;
  if (!curves) return [make("p", { class: "card soft" }, "There are no curves of this cell: the folder holds no scores of it.")];
  const cosine = cosineOf(cell);
  const other = cosine && cosine !== cell ? cosine.curves || null : null;
  const against = cosine && `plain cosine of ${cosine.vectorizer}`;
  return [
    make(
      "div",
      { class: "charts" },
      rankChart(cell, curves, other),
      rocChart(cell, curves, other),
      precisionChart(cell, curves, other),
      reliabilityChart(cell, curves, other),
      histogramChart(cell, curves),
      readingCard(other && against),
    ),
  ];
}

function readingCard(against) {
  const sample = (kind) => draw("svg", { class: "sample", viewBox: "0 0 34 10", "aria-hidden": "true" }, draw("path", { class: kind, d: "M1 5H33" }));
  const keys = [["main", "this cell"], ["other", against], ["chance", "chance, or perfect calibration"]];
  const shown = keys.filter(([, text]) => text);
  return make(
    "div",
    { class: "card chart reading" },
    make("h3", {}, "How to read them"),
    make("ul", {}, shown.map(([kind, text]) => make("li", {}, sample(kind), ` ${text}`))),
    READING.map((text) => make("p", { class: "soft small" }, text)),
  );
}

function curve(chart, now, before) {
  if (before) line(chart, points(...before), "other");
  line(chart, points(...now), "main");
}

function rocChart(cell, curves, other) {
  if (!curves.roc) return null;
  const said = `area ${withInterval(figure(cell, "roc_auc"))}`;
  const chart = plot({ label: `ROC curve of ${cellName(cell)}: ${said}`, x: { ...UNIT, title: "non-matches called matches" }, y: { ...UNIT, title: "matches found" } });
  line(chart, [[0, 0], [1, 1]], "chance");
  curve(chart, curves.roc, other && other.roc);
  return plotFigure("ROC", chart, said, points(...curves.roc), (a, b) => `${decimals(b)} of the matches found at ${decimals(a)} of the non-matches`);
}

function precisionChart(cell, curves, other) {
  if (!curves.pr) return null;
  const said = `average precision ${withInterval(figure(cell, "average_precision"))}`;
  const chart = plot({ label: `Precision and recall of ${cellName(cell)}: ${said}`, x: { ...UNIT, title: "recall: matches found" }, y: { ...UNIT, title: "precision: found that match" } });
  curve(chart, curves.pr, other && other.pr);
  return plotFigure("Precision and recall", chart, said, points(...curves.pr), (a, b) => `recall ${decimals(a)}, precision ${decimals(b)}`);
}

function reliabilityChart(cell, curves, other) {
  const now = curves.reliability;
  if (!now) return null;
  const said = `calibration error ${withInterval(figure(cell, "ece"))}, Brier score ${decimals(value(cell, "brier"))}`;
  const chart = plot({ label: `Reliability of ${cellName(cell)}: ${said}`, x: { ...UNIT, title: "probability said" }, y: { ...UNIT, title: "share that matched" } });
  line(chart, [[0, 0], [1, 1]], "chance");
  const before = other && other.reliability;
  curve(chart, [now.said, now.seen], before && [before.said, before.seen]);
  const most = Math.max(...(now.n || [1]));
  dots(chart, points(now.said, now.seen), "main dot", (index) => 2 + 4 * Math.sqrt((now.n ? now.n[index] : most) / most));
  return plotFigure("Reliability", chart, `${said}; a dot's area is its share of the pairs`, points(now.said, now.seen), (a, b) => `said ${decimals(a)}, matched ${decimals(b)}`);
}

function histogramChart(cell, curves) {
  const { edges, match, other } = curves.histogram || {};
  if (!edges) return null;
  const top = Math.max(...match, ...other, 0.1) * 1.05;
  const chart = plot({
    label: `Probabilities that ${cellName(cell)} gives to matches and to non-matches`,
    x: { ...UNIT, domain: [edges[0], edges[edges.length - 1]], title: "probability" },
    y: { domain: [0, top], title: "share of the pairs" },
  });
  outline(chart, edges, other, "nonmatches");
  outline(chart, edges, match, "matches");
  if (given(cell.threshold)) {
    line(chart, [[cell.threshold, 0], [cell.threshold, top]], "threshold");
    chart.svg.append(draw("text", { class: "tick", x: chart.x(cell.threshold) + 4, y: FRAME.top + 10 }, "threshold"));
  }
  const sample = (kind) => draw("svg", { class: "sample", viewBox: "0 0 34 10", "aria-hidden": "true" }, draw("path", { class: kind, d: "M1 9V2H33V9" }));
  const built = plotFigure("Scores", chart, "", []);
  built.lastChild.replaceChildren(make("span", { class: "keys" }, make("span", {}, sample("matches"), " matches"), make("span", {}, sample("nonmatches"), " non-matches")));
  return built;
}

function rankChart(cell, curves, other) {
  const shares = curves.topk;
  if (!shares || !shares.length) return null;
  const ranks = shares.map((_, at) => at + 1);
  const said = `first in ${decimals(shares[0])} of the queries, among the first two in ${decimals(shares[1])}`;
  const last = shares.length;
  const ticks = [...new Set([1, ...niceTicks(0, last, 4).filter((tick) => Number.isInteger(tick) && tick > 1)])];
  const chart = plot({ label: `Top-k curve of ${cellName(cell)}: ${said}`, x: { domain: [1, Math.max(last, 2)], ticks, title: "candidates looked at, k" }, y: { ...UNIT, title: "queries with match in top k" } });
  line(chart, ranks.map((rank) => [rank, rank / last]), "chance");
  const before = other && other.topk && other.topk.length === last ? [ranks, other.topk] : null;
  curve(chart, [ranks, shares], before);
  return plotFigure("Top k", chart, said, points(ranks, shares), (a, b) => `match among the first ${a} in ${decimals(b)} of the queries`);
}

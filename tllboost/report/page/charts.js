/* How the scores of one cell fall: five plots, beside those of a plain cosine. */

const READING = [
  "Top k and ROC: the higher the line, the better. Precision and recall: the farther to the upper right.",
  "Reliability: of the pairs given a probability of 0.8, eight in ten should match. Points below the dotted line are overconfident.",
  "Scores: the less matches and non-matches overlap, the better. Pairs to the right of the threshold count as matches; validation sets it.",
];

const UNIT = { domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1] };

function charts(cell) {
  const curves = cell.curves;
  if (!curves)
    return [
      make(
        "p",
        { class: "card soft" },
        "There are no curves: the folder holds no scores of this cell.",
      ),
    ];
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
  const sample = (kind) =>
    draw(
      "svg",
      { class: "sample", viewBox: "0 0 34 10", "aria-hidden": "true" },
      draw("path", { class: kind, d: "M1 5H33" }),
    );
  const keys = [
    ["main", "this cell"],
    ["other", against],
    ["chance", "chance, or perfect calibration"],
  ];
  const shown = keys.filter(([, text]) => text);
  return make(
    "div",
    { class: "card chart reading" },
    make("h3", {}, "How to read them"),
    make(
      "ul",
      {},
      shown.map(([kind, text]) => make("li", {}, sample(kind), ` ${text}`)),
    ),
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
  const chart = plot({
    label: `ROC curve of ${cellName(cell)}: ${said}`,
    x: { ...UNIT, title: "non-matches called matches" },
    y: { ...UNIT, title: "matches found" },
  });
  line(
    chart,
    [
      [0, 0],
      [1, 1],
    ],
    "chance",
  );
  curve(chart, curves.roc, other && other.roc);
  return plotFigure(
    "ROC",
    chart,
    said,
    points(...curves.roc),
    (a, b) =>
      `${decimals(b)} of the matches found at ${decimals(a)} of the non-matches`,
  );
}

function precisionChart(cell, curves, other) {
  if (!curves.pr) return null;
  const said = `average precision ${withInterval(figure(cell, "average_precision"))}`;
  const chart = plot({
    label: `Precision and recall of ${cellName(cell)}: ${said}`,
    x: { ...UNIT, title: "recall: matches found" },
    y: { ...UNIT, title: "precision: found that match" },
  });
  curve(chart, curves.pr, other && other.pr);
  return plotFigure(
    "Precision and recall",
    chart,
    said,
    points(...curves.pr),
    (a, b) => `recall ${decimals(a)}, precision ${decimals(b)}`,
  );
}

function reliabilityChart(cell, curves, other) {
  const now = curves.reliability;
  if (!now) return null;
  const said = `calibration error ${withInterval(figure(cell, "ece"))}, Brier score ${decimals(value(cell, "brier"))}`;
  const chart = plot({
    label: `Reliability of ${cellName(cell)}: ${said}`,
    x: { ...UNIT, title: "probability said" },
    y: { ...UNIT, title: "share that matched" },
  });
  line(
    chart,
    [
      [0, 0],
      [1, 1],
    ],
    "chance",
  );
  const before = other && other.reliability;
  curve(chart, [now.said, now.seen], before && [before.said, before.seen]);
  const most = Math.max(...(now.n || [1]));
  dots(
    chart,
    points(now.said, now.seen),
    "main dot",
    (index) => 2 + 4 * Math.sqrt((now.n ? now.n[index] : most) / most),
  );
  return plotFigure(
    "Reliability",
    chart,
    `${said}; a dot's area is its share of the pairs`,
    points(now.said, now.seen),
    (a, b) => `said ${decimals(a)}, matched ${decimals(b)}`,
  );
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
    line(
      chart,
      [
        [cell.threshold, 0],
        [cell.threshold, top],
      ],
      "threshold",
    );
    chart.svg.append(
      draw(
        "text",
        { class: "tick", x: chart.x(cell.threshold) + 4, y: FRAME.top + 10 },
        "threshold",
      ),
    );
  }
  const sample = (kind) =>
    draw(
      "svg",
      { class: "sample", viewBox: "0 0 34 10", "aria-hidden": "true" },
      draw("path", { class: kind, d: "M1 9V2H33V9" }),
    );
  const built = plotFigure("Scores", chart, "", []);
  built.lastChild.replaceChildren(
    make(
      "span",
      { class: "keys" },
      make("span", {}, sample("matches"), " matches"),
      make("span", {}, sample("nonmatches"), " non-matches"),
    ),
  );
  return built;
}

function rankChart(cell, curves, other) {
  const shares = curves.topk;
  if (!shares || !shares.length) return null;
  const ranks = shares.map((_, at) => at + 1);
  const said = `first in ${decimals(shares[0])} of the queries, among the first two in ${decimals(shares[1])}`;
  const last = shares.length;
  const ticks = [
    ...new Set([
      1,
      ...niceTicks(0, last, 4).filter((tick) => Number.isInteger(tick) && tick > 1),
    ]),
  ];
  const chart = plot({
    label: `Top-k curve of ${cellName(cell)}: ${said}`,
    x: { domain: [1, Math.max(last, 2)], ticks, title: "candidates looked at, k" },
    y: { ...UNIT, title: "queries with match in top k" },
  });
  line(
    chart,
    ranks.map((rank) => [rank, rank / last]),
    "chance",
  );
  const before =
    other && other.topk && other.topk.length === last ? [ranks, other.topk] : null;
  curve(chart, [ranks, shares], before);
  return plotFigure(
    "Top k",
    chart,
    said,
    points(ranks, shares),
    (a, b) => `match among the first ${a} in ${decimals(b)} of the queries`,
  );
}

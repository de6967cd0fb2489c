/* Accuracy against the time that learning took, and the cells that no other beats. */

const WIDE = { width: 720, height: 400, left: 48, right: 24, top: 28, bottom: 46 };
const NARROW = { width: 380, height: 340, left: 48, right: 12, top: 28, bottom: 46 };
const onPhone = matchMedia("(max-width: 40rem)");

function drawCosts() {
  const section = byId("cost");
  heading(
    section,
    "Accuracy against cost",
    "Seconds to train a projection and a head, for one seed. Vectors are computed once and not counted. ",
    "The line joins the cells that no cheaper cell beats; the list names them.",
  );
  section.append(make("div", { class: "card pareto", id: "costs" }));
  offerCsv(section, () => `${run.title}-cost-${chosen.metric}`, () => {
    const best = frontier(timedCells());
    return [
      ["cell", "seconds_to_learn", chosen.metric, "no_cheaper_cell_beats_it"],
      ...timedCells().map((index) => [
        cellName(cells[index], true),
        learning(cells[index]),
        value(cells[index]),
        best.includes(index) ? "yes" : "no",
      ]),
    ];
  });
}

function timedCells() {
  return [...cells.keys()].filter(
    (index) => value(cells[index]) !== null && learning(cells[index]) !== null,
  );
}

function learning(cell) {
  const { project_s: project, fit_s: fit } = cell.costs || {};
  if (!given(project) && !given(fit)) return null;
  return Math.max(0.001, (project || 0) + (fit || 0));
}

/* From the cheapest on, every cell that beats all that are cheaper. */
function frontier(indices) {
  const way = metric().lower ? -1 : 1;
  const cheap = [...indices].sort(
    (a, b) =>
      learning(cells[a]) - learning(cells[b]) ||
      way * (value(cells[b]) - value(cells[a])),
  );
  let best = -Infinity;
  return cheap.filter((index) => {
    const better = way * value(cells[index]) > best;
    if (better) best = way * value(cells[index]);
    return better;
  });
}

function fillCosts() {
  const timed = timedCells();
  byId("cost").hidden = timed.length < 2;
  if (timed.length < 2) return;
  const times = timed.map((index) => learning(cells[index]));
  const values = timed.map((index) => value(cells[index]));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low) * 0.06 || 0.01;
  const [fast, slow] = [Math.min(...times) / 1.4, Math.max(...times) * 1.4];
  const { title } = metric();
  const chart = plot({
    label: `${title} against seconds of learning, ${plural(timed.length, "cell")}; the best at each cost are listed`,
    x: {
      domain: [fast, slow],
      log: true,
      ticks: logTicks(fast, slow),
      title: "seconds to learn (log scale)",
    },
    y: { domain: [low - room, high + room], title },
    size: onPhone.matches ? NARROW : WIDE,
  });
  const best = frontier(timed);
  const steps = best.map((index) => [learning(cells[index]), value(cells[index])]);
  line(chart, stairs(steps, slow), "front");
  // The unbeaten last, so that none hides them.
  const beaten = timed.filter((index) => !best.includes(index));
  for (const index of [...beaten, ...best])
    chart.svg.append(costDot(chart, index, best.indexOf(index)));
  byId("costs").replaceChildren(
    chart.svg,
    make(
      "ol",
      {},
      best.map((index) =>
        make(
          "li",
          { class: "small number" },
          cellLink(index),
          ` ${decimals(value(cells[index]))}, ${seconds(learning(cells[index]))}`,
        ),
      ),
    ),
  );
}

function stairs(steps, last) {
  const path = steps.flatMap(([at, height], index) =>
    index
      ? [
          [at, steps[index - 1][1]],
          [at, height],
        ]
      : [[at, height]],
  );
  return path.length ? [...path, [last, path[path.length - 1][1]]] : path;
}

function costDot(chart, index, place) {
  const cell = cells[index];
  const [x, y] = [chart.x(learning(cell)), chart.y(value(cell))];
  const kind = [
    place < 0 ? "beaten" : "unbeaten",
    index === run.chosen ? "chosen" : "",
  ].join(" ");
  const group = draw(
    "g",
    { class: `spot ${kind}`, click: () => openCell(index) },
    draw("circle", { cx: x, cy: y, r: place < 0 ? 4 : 9 }),
  );
  if (place >= 0)
    group.append(
      draw("text", { x, y, dy: "0.35em", "text-anchor": "middle" }, place + 1),
    );
  const lines = () => [
    ...tipLines(cell).slice(0, 3),
    `learned in ${seconds(learning(cell))}`,
  ];
  group.addEventListener("pointerenter", () => showTip(group, lines()));
  group.addEventListener("pointerleave", hideTip);
  return group;
}

/* Small plots as SVG: a frame with axes, lines, and what the pointer is on. */

const FRAME = { width: 340, height: 280, left: 44, right: 12, top: 24, bottom: 42 };

function niceTicks(low, high, wanted = 5) {
  const rough = (high - low || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10]
    .map((one) => one * power)
    .find((one) => one >= rough - 1e-12);
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at += 1)
    ticks.push(at * step);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (
    let power = Math.floor(Math.log10(low));
    power <= Math.ceil(Math.log10(high));
    power += 1
  )
    for (const step of [1, 3]) {
      const tick = step * 10 ** power;
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  return ticks.length > 7
    ? ticks.filter((tick) => Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6))
    : ticks;
}

/* A scale turns a value into a place of the image. */
function scale(low, high, from, to, log = false) {
  const bend = log ? Math.log10 : (one) => one;
  const span = bend(high) - bend(low) || 1;
  return (one) => from + ((bend(one) - bend(low)) / span) * (to - from);
}

function tickText(tick) {
  return String(Number(tick.toPrecision(3))).replace("-", "−");
}

/* Return {svg, x, y, layer}: an empty plot with axes and its two scales. */
function plot({ label, x, y, size = FRAME }) {
  const { width, height, left, right, top, bottom } = { ...FRAME, ...size };
  const across = scale(...x.domain, left, width - right, x.log);
  const up = scale(...y.domain, height - bottom, top);
  const svg = draw("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": label,
    class: "plot",
  });
  const ticks = {
    x: x.ticks || niceTicks(...x.domain),
    y: y.ticks || niceTicks(...y.domain),
  };
  svg.append(
    ...ticks.y.map((tick) =>
      draw("line", {
        class: "rule",
        x1: left,
        x2: width - right,
        y1: up(tick),
        y2: up(tick),
      }),
    ),
    ...ticks.x.map((tick) =>
      draw("line", {
        class: "rule",
        x1: across(tick),
        x2: across(tick),
        y1: top,
        y2: height - bottom,
      }),
    ),
    ...ticks.y.map((tick) =>
      draw(
        "text",
        { class: "tick", x: left - 6, y: up(tick), "text-anchor": "end", dy: "0.32em" },
        (y.text || tickText)(tick),
      ),
    ),
    ...ticks.x.map((tick) =>
      draw(
        "text",
        {
          class: "tick",
          x: across(tick),
          y: height - bottom + 16,
          "text-anchor": "middle",
        },
        (x.text || tickText)(tick),
      ),
    ),
    draw("line", {
      class: "axis",
      x1: left,
      x2: width - right,
      y1: height - bottom,
      y2: height - bottom,
    }),
    draw("line", { class: "axis", x1: left, x2: left, y1: top, y2: height - bottom }),
    draw(
      "text",
      {
        class: "title",
        x: (left + width - right) / 2,
        y: height - 6,
        "text-anchor": "middle",
      },
      x.title,
    ),
    draw(
      "text",
      {
        class: "title",
        x: 0,
        y: 11,
      },
      y.title,
    ),
  );
  return { svg, x: across, y: up, frame: { width, height, left, right, top, bottom } };
}

function points(xs, ys) {
  return xs
    .map((one, index) => [one, ys[index]])
    .filter(([a, b]) => given(a) && given(b));
}

function line(chart, pairs, kind) {
  if (!pairs.length) return;
  const path = pairs.map(
    ([a, b], at) =>
      `${at ? "L" : "M"}${chart.x(a).toFixed(1)} ${chart.y(b).toFixed(1)}`,
  );
  chart.svg.append(draw("path", { class: kind, d: path.join("") }));
}

function dots(chart, pairs, kind, radius = () => 3.5) {
  for (const [index, [a, b]] of pairs.entries())
    chart.svg.append(
      draw("circle", { class: kind, cx: chart.x(a), cy: chart.y(b), r: radius(index) }),
    );
}

/* Bars that touch, as one outline: densities over edges. */
function outline(chart, edges, heights, kind) {
  const pairs = [[edges[0], 0]];
  heights.forEach((height, at) =>
    pairs.push([edges[at], height || 0], [edges[at + 1], height || 0]),
  );
  pairs.push([edges[edges.length - 1], 0]);
  line(chart, pairs, kind);
}

/* Say the nearest point's figures below the plot while the pointer is over it. */
function readout(chart, pairs, place, text) {
  if (!pairs.length) return;
  const dot = draw("circle", { class: "here", r: 4.5, visibility: "hidden" });
  const silent = place.textContent;
  chart.svg.append(dot);
  chart.svg.addEventListener("pointermove", (event) => {
    const box = chart.svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * chart.frame.width;
    const far = ([a]) => Math.abs(chart.x(a) - at);
    const nearest = pairs.reduce((best, one) => (far(one) < far(best) ? one : best));
    dot.setAttribute("cx", chart.x(nearest[0]));
    dot.setAttribute("cy", chart.y(nearest[1]));
    dot.setAttribute("visibility", "visible");
    place.textContent = text(...nearest);
  });
  chart.svg.addEventListener("pointerleave", () => {
    dot.setAttribute("visibility", "hidden");
    place.textContent = silent;
  });
}

function plotFigure(title, chart, note, pairs, text) {
  const place = make("p", { class: "soft small number" }, note);
  readout(chart, pairs || [], place, text);
  return make(
    "figure",
    { class: "card chart" },
    make("figcaption", {}, make("h3", {}, title)),
    chart.svg,
    place,
  );
}

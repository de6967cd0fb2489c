/* What each cell gains over the plain cosine of its vectorizer, with intervals. */

const FEW_GAINS = 15;
let allGains = false;

function drawGains() {
  const section = byId("gain");
  heading(
    section,
    "Gain over the plain cosine",
    "The difference from the untrained cosine of the same vectors, on the same resamples of the test images. Right is better. ",
    "A filled dot: the interval excludes zero. A hollow dot: it includes zero. Among many cells, a few exclude zero by chance.",
  );
  section.append(make("div", { class: "card", id: "gains" }));
  offerCsv(section, () => `${run.title}-gain-${chosen.metric}`, () => [
    ["cell", "gain", "gain_low", "gain_high"],
    ...gainers().map((index) => [cellName(cells[index], true), ...gain(cells[index])]),
  ]);
}

function gainers() {
  const rated = [...cells.keys()].filter(
    (index) =>
      gain(cells[index]) && given(gain(cells[index])[0]) && !isBaseline(cells[index]),
  );
  return rated.sort((a, b) => gain(cells[b])[0] - gain(cells[a])[0]);
}

function fillGains() {
  const ordered = gainers();
  const place = byId("gains");
  byId("gain").hidden = !ordered.length;
  if (!ordered.length) return;
  const shown = allGains
    ? ordered
    : ordered.filter((index, at) => at < FEW_GAINS || index === run.chosen);
  const ends = shown.flatMap((index) => gain(cells[index])).filter(given);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const room = (high - low) * 0.03 || 0.01;
  const at = scale(low - room, high + room, 0, 100);
  const zero = make("i", { class: "zero", style: `left:${at(0)}%` });
  const ticks = niceTicks(low, high, 4).map((tick) =>
    make(
      "span",
      { style: `left:${at(tick)}%` },
      tick ? `${tick > 0 ? "+" : ""}${tickText(tick)}` : "0",
    ),
  );
  place.replaceChildren(
    make(
      "ul",
      { class: "gains" },
      shown.map((index) => gainRow(index, at, zero.cloneNode())),
    ),
    make(
      "div",
      { class: "gain axis", "aria-hidden": "true" },
      make("span"),
      make("div", { class: "track" }, ticks),
      make("span"),
    ),
    ...(ordered.length > FEW_GAINS
      ? [
          make(
            "button",
            { click: turnGains, "aria-expanded": String(allGains), id: "more-gains" },
            allGains
              ? `Show the first ${FEW_GAINS}`
              : `Show all ${whole(ordered.length)}`,
          ),
        ]
      : []),
  );
}

function turnGains() {
  allGains = !allGains;
  fillGains();
  byId("more-gains").focus();
}

function gainRow(index, at, zero) {
  const [middle, low, high] = gain(cells[index]);
  const sure = isSure([middle, low, high]);
  const bar = given(low)
    ? make("i", {
        class: "bar",
        style: `left:${at(low)}%;width:${at(high) - at(low)}%`,
      })
    : null;
  const dot = make("i", {
    class: sure ? "dot sure" : "dot",
    style: `left:${at(middle)}%`,
  });
  const badge =
    index === run.chosen ? [" ", make("span", { class: "badge main" }, "chosen")] : [];
  return make(
    "li",
    { class: "gain" },
    make(
      "span",
      { class: "who" },
      cellLink(index),
      badge,
    ),
    make("div", { class: "track", "aria-hidden": "true" }, zero, bar, dot),
    make("span", { class: "number small" }, withInterval(gain(cells[index]), signed)),
  );
}

/* Queries with their ranked candidates, and the pairs that were mistaken most surely. */

const PLACES = 8;
const FEW_QUERIES = 5;
const FEW_PAIRS = 8;

function drawGallery() {
  const section = byId("gallery");
  if (!run.gallery) {
    section.remove();
    return;
  }
  heading(
    section,
    "Images",
    "Test queries of a cell with their candidates, the most probable first. Choose an image to enlarge it beside its query.",
  );
  section.append(cellSelect("whose"), make("div", { id: "shelves" }));
  whenChosen("cell", fillGallery);
}

function fillGallery() {
  const section = byId("shelves");
  const cell = cells[chosen.cell];
  const shown = run.gallery.cells[chosen.cell];
  section.replaceChildren(make("p", { class: "soft small" }, galleryWords(cell, shown)));
  if (!shown) return;
  const ends = [
    ["best", "Best queries", "The match comes first, with the most to spare."],
    [
      "worst",
      "Worst queries",
      "The match comes far down: the cell scored the images before it higher.",
    ],
  ];
  for (const [end, title, about] of ends) {
    const queries = (shown.queries || []).filter((query) => query.end === end);
    if (queries.length)
      section.append(
        shelf(`${end}-queries`, title, about, queries.map(queryCard), FEW_QUERIES),
      );
  }
  const mistakes = [
    [
      "false_matches",
      "Most confident false matches",
      "Non-matches with the highest scores.",
      "no match",
    ],
    [
      "missed",
      "Most confident missed matches",
      "Matches with the lowest scores.",
      "match",
    ],
  ];
  for (const [key, title, about, truth] of mistakes) {
    const pairs = shown[key] || [];
    if (!pairs.length) continue;
    const views = pairs.map((pair) => pairView(pair, truth));
    section.append(
      shelf(
        key,
        title,
        about,
        pairs.map((pair, at) => pairCard(pair, views, at)),
        FEW_PAIRS,
      ),
    );
  }
}

function galleryWords(cell, shown) {
  if (!done(cell)) return "This cell failed: it ranked nothing.";
  if (!shown) return "The page has room for no more images: it shows none of this cell.";
  const best = shown.queries.filter((query) => query.end === "best").length;
  const seeds = (run.run || {}).seeds || [];
  return `Of ${seeds.length === 1 ? "seed" : "seeds"} ${seeds.join(", ")}, the ${plural(best, "query", "queries")} whose match is farthest ahead of the best non-match; then those whose match is farthest behind it, or least ahead. Each query image is shown once.`;
}

/* The first few cards; the others come when asked for, and the focus goes to them. */
function shelf(id, title, about, cards, few) {
  const rest = cards.slice(few);
  rest.forEach((card) => (card.hidden = true));
  const more = make(
    "button",
    { type: "button", class: "rest" },
    `Show all ${cards.length}`,
  );
  more.addEventListener("click", () => {
    rest.forEach((card) => (card.hidden = false));
    rest[0].querySelector("button").focus();
    more.remove();
  });
  return make(
    "div",
    { class: "shelf", id },
    make("h3", {}, title),
    make("p", { class: "soft small" }, about),
    make("div", { class: few === FEW_PAIRS ? "pairs" : "" }, cards),
    rest.length ? more : null,
  );
}

function imageOf(key) {
  const image = (run.gallery.images || {})[key] || null;
  return image && image.src ? image : null;
}

function nameOf(key) {
  return ((run.gallery.images || {})[key] || {}).id || `image ${key}`;
}

function seedWords(seed) {
  const seeds = (run.run || {}).seeds || [];
  return seeds.length > 1 && given(seed) ? `seed ${seed}` : "";
}

function queryCard(query) {
  const last = query.candidates.length;
  const matchAt = query.candidates.findIndex((one) => one.match);
  const views = query.candidates.map((one, at) => candidateView(query, one, at));
  const tiles = query.candidates.map((one, at) => candidateTile(query, one, at, views));
  // The first few and the match, wherever that is: as many for each query.
  const kept = (at) => at < PLACES - (matchAt >= PLACES) || at === matchAt;
  const list = make("ol", { class: "candidates" }, tiles);
  const hideFar = (far) =>
    tiles.forEach((one, at) => one.classList.toggle("far", far && !kept(at)));
  const rest = tiles.filter((_, at) => !kept(at)).length;
  const more = make(
    "button",
    { type: "button", class: "more small", "aria-expanded": "false" },
    `Show all ${last}`,
  );
  more.addEventListener("click", () => {
    const opened = more.getAttribute("aria-expanded") !== "true";
    more.setAttribute("aria-expanded", String(opened));
    more.textContent = opened ? "Show fewer" : `Show all ${last}`;
    hideFar(!opened);
  });
  hideFar(true);
  const words = [
    `match ranked ${query.rank} of ${query.among || last}`,
    seedWords(query.seed),
  ]
    .filter(Boolean)
    .join(", ");
  return make(
    "article",
    { class: "card query" },
    make(
      "div",
      { class: "asked" },
      imageTile(query.query, "query", [make("b", {}, "query")], () =>
        enlarge(views, Math.max(0, matchAt)),
      ),
    ),
    make(
      "div",
      {},
      list,
      make("div", { class: "below small number" }, words, rest ? more : null),
    ),
  );
}

function imageTile(key, role, caption, open, classes = "") {
  const image = imageOf(key);
  const name = nameOf(key);
  const shown = image
    ? make("img", {
        src: image.src,
        alt: `${role}: ${name}`,
        width: image.width,
        height: image.height,
        loading: "lazy",
        decoding: "async",
      })
    : make("span", { class: "gone" }, name);
  return make(
    "figure",
    { class: classes },
    make(
      "button",
      {
        type: "button",
        class: "image",
        click: open,
        title: name,
        "aria-haspopup": "dialog",
      },
      shown,
    ),
    make(
      "figcaption",
      { class: "small number" },
      caption,
      make("bdi", { class: "name", title: name }, fileName(name)),
    ),
  );
}

function candidateTile(query, one, at, views) {
  const role = `candidate ${placeOf(one, at)}, probability ${percent(one.p)}${one.match ? ", the match" : ""}`;
  const caption = [
    make("span", {}, `${placeOf(one, at)}. ${percent(one.p)}`),
    one.match ? make("b", { class: "match" }, "match") : null,
  ];
  return make(
    "li",
    { class: one.match ? "match" : "" },
    imageTile(
      one.image,
      role,
      caption,
      () => enlarge(views, at),
      one.match ? "true" : "",
    ),
  );
}

/* Its rank: of a long list not every candidate is on the page. */
function placeOf(one, at) {
  return one.rank || at + 1;
}

function candidateView(query, one, at) {
  return {
    left: {
      image: imageOf(query.query),
      label: "query",
      name: nameOf(query.query),
    },
    right: {
      image: imageOf(one.image),
      label: one.match ? "the match" : "not the match",
      name: nameOf(one.image),
      match: one.match,
    },
    words: `candidate ${placeOf(one, at)} of ${query.among || query.candidates.length}, probability ${percent(one.p)}`,
  };
}

function pairView(pair, truth) {
  const side = (key, label) => ({
    image: imageOf(key),
    label,
    name: nameOf(key),
    match: truth === "match",
  });
  const words = [
    `${truth === "match" ? "a match" : truth}, scored ${percent(pair.p)}`,
    seedWords(pair.seed),
  ]
    .filter(Boolean)
    .join(", ");
  return { left: side(pair.left, "left"), right: side(pair.right, "right"), words };
}

function pairCard(pair, views, at) {
  const open = () => enlarge(views, at);
  return make(
    "div",
    { class: "card two" },
    make(
      "div",
      { class: "pair" },
      imageTile(pair.left, "left", null, open),
      imageTile(pair.right, "right", null, open),
    ),
    make("p", { class: "small number" }, views[at].words),
  );
}

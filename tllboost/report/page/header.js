/* The top of the page: what was run, what came out, and how to repeat it. */

/* Lines of a run that the tiles say: in whatever metric is chosen. */
const TOLD =
  /^(what choosing on validation gave|chosen on validation|gain over the best cosine)\b/;

/* The run, the metric, the data and the day, as far as the page knows them. */
function fillTitle() {
  const { settings, environment } = run.run || {};
  const told = (rows, key) => ((rows || []).find(([name]) => name === key) || [])[1];
  const [data, date] = [told(settings, "pairs"), told(environment, "date")];
  const folders = data && data.split(/[\\/]/).filter(Boolean);
  const said = [
    run.title,
    metric().title && `: ${metric().title}`,
    data && " on ",
    data && make("span", {}, folders.slice(-2).join("/"), date && ","),
    date && `${data ? "" : ","} ${dateWords(date)}`,
  ];
  byId("title").replaceChildren(...said.filter(Boolean));
  document.title = `${byId("title").textContent} · tllboost`;
}

function drawHeader() {
  const about = run.run || {};
  const protocol = about.protocol || {};
  const seeds = about.seeds || [];
  byId("top").append(
    make("p", { class: "kicker" }, `tllboost ${run.version || ""} · results of a grid`),
    make("h1", { id: "title" }),
    make(
      "p",
      { class: "lede soft" },
      [
        (about.data || [])
          .filter(([, text]) => text !== "0")
          .map(([label, text]) => `${text} ${label}`)
          .join(" · "),
        protocol.name && `protocol ${protocol.name}`,
        seeds.length && plural(seeds.length, "seed"),
      ]
        .filter(Boolean)
        .join(" · "),
    ),
    make("div", { class: "tiles", id: "headline" }),
    ...(run.notes || [])
      .filter((note) => !TOLD.test(note))
      .map((note) => make("p", { class: "note" }, note)),
  );
  drawRun(about, protocol, seeds);
  byId("foot").append(
    `Written by tllboost ${run.version || ""}. The page is complete in itself and makes no network request.`,
  );
}

function tile(label, main, text, index = null) {
  const title =
    index === null
      ? main
      : make("button", { class: "plain", click: () => openCell(index) }, main);
  return make(
    "div",
    { class: "tile" },
    make("div", { class: "label" }, label),
    make("div", { class: "main number" }, title),
    make("div", { class: "soft small" }, text),
  );
}

function drawHeadline() {
  fillTitle();
  const all = bestFirst(cells.keys()).filter((index) => value(cells[index]) !== null);
  const place = byId("headline");
  if (!place) return;
  place.replaceChildren();
  if (!all.length) return;
  const { title, lower } = metric();
  const choosing = run.choosing_gave || {};
  const gave = ["", "_low", "_high"].map((end) => choosing[chosen.metric + end]);
  // Of one choice, it is the figure of the chosen cell.
  if (given(gave[0]) && choosing.n_choices !== 1)
    place.append(
      tile(
        "What choosing gave",
        decimals(gave[0]),
        `${title} ${between(gave)} · each seed and fold chose on its own validation set, and was tested on its own test set`,
      ),
    );
  const winner = run.chosen === null ? null : cells[run.chosen];
  if (winner && value(winner) !== null) {
    const text = `${title} ${between(figure(winner))} · ${cellName(winner)}`;
    place.append(
      tile("Chosen on validation", decimals(value(winner)), text, run.chosen),
    );
    const won = over(winner);
    if (won && given(won[0]) && !isBaseline(winner))
      place.append(
        tile("Its gain over the best cosine", signed(won[0]), gainWords(won)),
      );
  }
  const plain = bestCosine();
  if (plain)
    place.append(
      tile(
        "Best plain cosine",
        decimals(value(plain)),
        `${plain.vectorizer} · no training`,
        cells.indexOf(plain),
      ),
    );
  const ties = all.filter((index) => tied(cells[index]) === "yes").length;
  const best = cells[all[0]];
  place.append(
    tile(
      "Best on the test images",
      decimals(value(best)),
      `${cellName(best)} · the ${lower ? "lowest" : "highest"} of ${plural(all.length, "cell")}, so optimistic; ${plural(ties, "cell ties", "cells tie")} with it`,
      all[0],
    ),
  );
  const failed = cells.filter((cell) => !done(cell)).length;
  place.append(
    tile(
      "Cells",
      whole(cells.length),
      failed ? `${whole(failed)} failed, see below` : "none failed",
    ),
  );
}

function gainWords(won) {
  if (!given(won[1])) return "";
  const sure =
    won[1] > 0
      ? "above zero at 95\u00a0%"
      : won[2] < 0
        ? "below zero at 95\u00a0%"
        : "may be chance: zero lies inside";
  return `${between(won, signed)} · ${sure}`;
}

function drawRun(about, protocol, seeds) {
  const command = make("code", { id: "command", tabindex: "0" }, about.command || "");
  const said = make("span", { class: "aloud", role: "status" });
  const button = make("button", { id: "copy", type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(command)) ? "Copied" : "Press Ctrl+C";
    said.textContent = button.textContent;
    setTimeout(() => (button.textContent = "Copy"), 2500);
  });
  byId("run").append(
    make(
      "div",
      { class: "card" },
      make("h2", {}, "What was run"),
      about.command &&
        make(
          "div",
          { class: "command" },
          make("div", { class: "scroll" }, command),
          button,
          said,
        ),
      facts([
        ...(about.data || []),
        ["protocol", [make("b", {}, protocol.name || ""), " ", protocol.text || ""]],
        [seeds.length === 1 ? "seed" : "seeds", seeds.join(", ")],
      ]),
      folded("Settings", [
        ...(about.settings || []),
        ...(protocol.sizes ? [["protocol", protocol.sizes]] : []),
      ]),
      folded("Aliases of vectorizers", about.aliases),
      folded("Versions and machine", about.environment),
    ),
  );
}

function folded(title, rows, open = false) {
  if (!rows || !rows.length) return null;
  return make("details", { open }, make("summary", {}, title), facts(rows));
}

/* Without leave to write the clipboard, the text is at least selected. */
async function copied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}

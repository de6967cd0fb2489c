/* What failed and why, and what the leak check counted. */

const FEW_FAILURES = 30;

function drawFailures() {
  const section = byId("failures");
  const failures = run.failures || [];
  heading(
    section,
    "Failures",
    failures.length
      ? "What the figures leave out, and why."
      : "Nothing failed: every image was read and every cell was measured.",
  );
  if (!failures.length) return;
  offerCsv(section, () => `${run.title}-failures`, () => [
    ["what", "where", "why"],
    ...failures.map(({ what, where, why }) => [what, where, why]),
  ]);
  const rows = grouped(failures).map(({ what, where, why }) =>
    make(
      "tr",
      {},
      make("td", {}, what),
      make(
        "td",
        { class: "breaks" },
        where.length > 1
          ? [
              `${whole(where.length)} of them`,
              folded(
                "which",
                where.map((one, at) => [at + 1, one]),
              ),
            ]
          : where[0],
      ),
      make("td", { class: "breaks" }, why),
    ),
  );
  const few = rows.slice(0, FEW_FAILURES);
  const table = make(
    "table",
    {},
    make("caption", { class: "aloud" }, "Failures"),
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        ["what", "where", "why"].map((one) => make("th", { scope: "col" }, one)),
      ),
    ),
    make("tbody", {}, few),
  );
  section.append(make("div", { class: "scroll framed" }, table));
  if (rows.length > few.length)
    section.append(
      make(
        "button",
        {
          click: (event) => (
            table.tBodies[0].append(...rows.slice(FEW_FAILURES)),
            event.target.remove()
          ),
        },
        `Show all ${whole(rows.length)}`,
      ),
    );
}

/* One line for each reason: a missing network fails many cells alike. */
function grouped(failures) {
  const lines = new Map();
  for (const { what, where, why } of failures) {
    const key = JSON.stringify([what, why]);
    if (!lines.has(key)) lines.set(key, { what, why, where: [] });
    lines.get(key).where.push(where);
  }
  return [...lines.values()];
}

function drawLeaks() {
  const section = byId("leaks");
  const rows = run.leaks || [];
  if (!rows.length) {
    section.remove();
    return;
  }
  heading(
    section,
    "Leaks",
    "What the test set shares with training and validation. Without a leak every count is zero.",
  );
  section.append(make("div", { class: "card" }, facts(rows)));
  offerCsv(section, () => `${run.title}-leaks`, () => [["what", "count"], ...rows]);
}

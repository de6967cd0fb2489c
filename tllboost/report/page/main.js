/* Draw everything once, and again what a choice changes. */

function drawParts() {
  const sections = document.querySelectorAll("main > section[data-part]");
  byId("parts").append(
    ...[...sections].map((one) => make("a", { href: `#${one.id}` }, one.dataset.part)),
  );
  const select = byId("metric");
  select.append(
    ...run.metrics.map((one) => make("option", { value: one.name }, one.title)),
  );
  select.value = chosen.metric;
  select.addEventListener("change", () => choose("metric", select.value));
}

/* A list of parts that goes on beyond an edge of a small screen fades out there. */
function showMoreParts() {
  const { scrollLeft, scrollWidth, clientWidth } = byId("parts");
  const menu = byId("parts").parentElement;
  menu.classList.toggle("before", scrollLeft > 1);
  menu.classList.toggle("more", scrollLeft + clientWidth < scrollWidth - 1);
}

drawHeader();
if (cells.length) {
  drawMatrix();
  drawCell();
  drawGallery();
  drawCells();
  drawGains();
  drawCosts();
} else {
  for (const id of ["matrix", "cell", "gallery", "cells", "gain", "cost"])
    byId(id).remove();
}
drawFailures();
drawLeaks();
drawParts();
showMoreParts();
byId("parts").addEventListener("scroll", showMoreParts, { passive: true });
addEventListener("resize", showMoreParts);
if (cells.length) {
  whenChosen("metric", () =>
    [drawHeadline, colourMatrix, fillCell, fillTable, fillGains, fillCosts].forEach(
      (redraw) => redraw(),
    ),
  );
  whenChosen("cell", fillCell);
  onPhone.addEventListener("change", fillCosts);
  choose("metric", chosen.metric);
  const first = given(run.chosen) ? run.chosen : bestFirst(cells.keys())[0];
  choose("cell", first);
}

"use strict";
// Show and hide the maps; light a patch up in the image where the pointer is on it in
// the map, or where its line in the list is looked at.

const box = document.getElementById("show-map");

function show() {
  document.body.classList.toggle("bare", !box.checked);
}

function light(name, on) {
  for (const patch of document.querySelectorAll("rect[data-patch]")) {
    if (patch.dataset.patch !== name) continue;
    patch.classList.toggle("looked", on);
    const lit = patch.closest("figure").querySelector(".lit");
    for (const side of ["x", "y", "width", "height"]) {
      lit.setAttribute(side, patch.getAttribute(side));
    }
    lit.setAttribute("visibility", on ? "visible" : "hidden");
  }
}

box.addEventListener("change", show);
document.addEventListener("keydown", (event) => {
  if (event.key !== "m" && event.key !== "M") return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  box.checked = !box.checked;
  show();
});
for (const button of document.querySelectorAll("[data-patch]")) {
  const name = button.dataset.patch;
  for (const [event, on] of [
    ["mouseenter", true],
    ["mouseleave", false],
    ["focus", true],
    ["blur", false],
  ]) {
    button.addEventListener(event, () => light(name, on));
  }
}
// A browser may remember the box of an earlier visit.
show();

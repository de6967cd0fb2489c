"use strict";
// Show and hide the maps; light a patch up where its line in the list is looked at.

const box = document.getElementById("show-map");

function show() {
  document.body.classList.toggle("bare", !box.checked);
}

function light(name, on) {
  for (const patch of document.querySelectorAll("rect[data-patch]")) {
    if (patch.dataset.patch === name) patch.classList.toggle("lit", on);
  }
}

box.addEventListener("change", show);
document.addEventListener("keydown", (event) => {
  if (event.key !== "m" && event.key !== "M") return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  box.checked = !box.checked;
  show();
});
for (const button of document.querySelectorAll("button[data-patch]")) {
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

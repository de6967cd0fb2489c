/* One small box of text beside what the pointer or the keyboard is on. */

const tip = byId("tip");
let tipOf = null;

function showTip(anchor, lines) {
  tip.replaceChildren(
    ...lines
      .filter(Boolean)
      .map((line, index) => make("div", { class: index ? "" : "lead" }, line)),
  );
  tip.hidden = false;
  tipOf = anchor;
  placeTip();
}

function placeTip() {
  const place = tipOf.getBoundingClientRect();
  const box = tip.getBoundingClientRect();
  const edge = 8;
  const left = place.left + place.width / 2 - box.width / 2;
  const above = place.top - box.height - edge;
  const farthest = document.documentElement.clientWidth - box.width - edge;
  tip.style.left = `${Math.max(edge, Math.min(left, farthest))}px`;
  tip.style.top = `${above > edge ? above : place.bottom + edge}px`;
}

function hideTip() {
  tip.hidden = true;
  tip.replaceChildren();
  tipOf = null;
}

/* Give an element a tip that hovering and focusing show alike. */
function giveTip(element, lines) {
  const show = () => showTip(element, lines());
  element.addEventListener(
    "pointerenter",
    (event) => event.pointerType !== "touch" && show(),
  );
  element.addEventListener("pointerleave", hideTip);
  element.addEventListener("focus", () => element.matches(":focus-visible") && show());
  element.addEventListener("blur", hideTip);
  element.setAttribute("aria-describedby", "tip");
}

document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

/* The tip of what is still in focus or under the pointer goes along. */
function scrollTip() {
  if (tipOf && (tipOf === document.activeElement || tipOf.matches(":hover")))
    placeTip();
  else hideTip();
}

document.addEventListener("scroll", scrollTip, { capture: true, passive: true });

/* Images of a group large, beside its first one; j and k walk through the groups. */

const groups = [...document.querySelectorAll("section.similar")];

function viewOf(figure, label) {
  const image = figure.querySelector("img");
  return {
    image: image && { src: image.src, width: image.width, height: image.height },
    label,
    name: figure.querySelector(".name").textContent,
  };
}

for (const group of groups) {
  const figures = [...group.querySelectorAll("figure")];
  const views = figures.map((one, at) => ({
    left: viewOf(figures[0], "the first one"),
    right: viewOf(one, `image ${at + 1} of ${figures.length}`),
    words: `best score in its group: ${one.querySelector("figcaption span").textContent}`,
  }));
  figures.forEach((one, at) =>
    one.querySelector("button").addEventListener("click", () => enlarge(views, at)),
  );
}

document.addEventListener("keydown", (event) => {
  const step = { j: 1, k: -1 }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey || enlarged.open) return;
  const top = (one) => one.getBoundingClientRect().top;
  const near = groups.findIndex((one) => top(one) > -8);
  const now = groups.indexOf(document.activeElement?.closest("section.similar"));
  const at = now < 0 ? near - (step > 0 ? 1 : 0) : now;
  const next = groups[at + step];
  if (!next) return;
  next.focus();
  next.scrollIntoView();
});

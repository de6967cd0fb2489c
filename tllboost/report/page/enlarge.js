/* Images large and side by side, in a dialog that Escape closes. */

const enlarged = byId("enlarged");
let strip = [];
let stripAt = 0;

/* `views` are what the arrow keys go through: {left, right, words}. */
function enlarge(views, at) {
  strip = views;
  stripAt = at;
  fillEnlarged();
  if (!enlarged.open) enlarged.showModal();
}

function fillEnlarged() {
  const view = strip[stripAt];
  const image = (side) =>
    make(
      "figure",
      { class: view[side].match ? "true" : "" },
      largeImage(view[side]),
      make(
        "figcaption",
        {},
        make("b", {}, view[side].label),
        make("br"),
        view[side].name,
      ),
    );
  const step = (by, text, key) =>
    make(
      "button",
      {
        type: "button",
        "aria-keyshortcuts": key,
        disabled: !strip[stripAt + by],
        click: () => stepTo(stripAt + by),
      },
      text,
    );
  enlarged.replaceChildren(
    make("div", { class: "pair" }, image("left"), image("right")),
    make("p", { class: "number", role: "status" }, view.words),
    make(
      "div",
      { class: "buttons" },
      step(-1, "← before", "ArrowLeft"),
      step(1, "next →", "ArrowRight"),
      make(
        "button",
        { type: "button", autofocus: true, click: () => enlarged.close() },
        "Close",
      ),
    ),
  );
}

function largeImage({ image, label, name }) {
  if (!image) return make("div", { class: "gone" }, "no thumbnail");
  return make("img", {
    src: image.src,
    alt: `${label}: ${name}`,
    width: image.width,
    height: image.height,
  });
}

function stepTo(at) {
  if (!strip[at]) return;
  stripAt = at;
  fillEnlarged();
  enlarged.querySelector("[autofocus]").focus();
}

enlarged.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") stepTo(stripAt - 1);
  if (event.key === "ArrowRight") stepTo(stripAt + 1);
});
enlarged.addEventListener(
  "click",
  (event) => event.target === enlarged && enlarged.close(),
);

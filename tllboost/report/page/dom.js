"use strict";
/* Making elements. Content is always text: nothing here reads HTML. */

const SVG = "http://www.w3.org/2000/svg";

function dress(element, properties, children) {
  for (const [key, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  const wanted = children
    .flat(Infinity)
    .filter((one) => one !== null && one !== undefined);
  element.append(...wanted.map((one) => (one instanceof Node ? one : String(one))));
  return element;
}

function make(tag, properties, ...children) {
  return dress(document.createElement(tag), properties, children);
}

function draw(tag, properties, ...children) {
  return dress(document.createElementNS(SVG, tag), properties, children);
}

const LONG = 48;

function byId(id) {
  return document.getElementById(id);
}

function facts(rows) {
  const long = (text) => typeof text !== "string" || text.length > LONG;
  const lines = rows.map(([term, text]) => [
    make("dt", { class: long(text) ? "long" : null }, term),
    make("dd", { class: long(text) ? "long" : null }, text),
  ]);
  return make("dl", { class: "facts" }, lines);
}

/* A section's heading and what it is about, in one place. */
function heading(section, title, ...about) {
  const id = `${section.id}-title`;
  section.setAttribute("aria-labelledby", id);
  section.append(make("div", { class: "titled" }, make("h2", { id }, title)));
  if (about.length) section.append(make("p", { class: "soft" }, ...about));
}

/* What a spreadsheet would run gets an apostrophe, as in the files of a run. */
function csvField(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  const text = String(value);
  const runs = /^'*[=+\-@\t\r\n]/.test(text) && Number.isNaN(Number(text));
  const inert = runs ? `'${text}` : text;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}

/* A button beside a section's title: its table as a file, made in the page. */
function offerCsv(section, name, rows) {
  const save = () => {
    const text = rows()
      .map((row) => `${row.map(csvField).join(",")}\n`)
      .join("");
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    make("a", { href: address, download: `${name()}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  };
  section
    .querySelector(".titled")
    .append(make("button", { type: "button", class: "csv", click: save }, "Download CSV"));
}

/* How numbers and names are written. What has no value is a dash. */

const NONE = "–";

function given(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function decimals(value, digits = 3) {
  return given(value)
    ? halfEven(value, digits).toFixed(digits).replace("-", "−")
    : NONE;
}

/* What lies in the very middle goes to the even digit, as in the tables and the terminal:
   0.8125 is 0.812. */
function halfEven(value, digits) {
  const scaled = value * 10 ** digits;
  const middle =
    Number.isInteger(value * 2 ** (digits + 1)) && Math.abs(scaled % 1) === 0.5;
  return middle ? (2 * Math.round(scaled / 2)) / 10 ** digits : value;
}

function signed(value, digits = 3) {
  return given(value) && value >= 0
    ? `+${decimals(value, digits)}`
    : decimals(value, digits);
}

function between(figure, write = decimals) {
  if (!figure || !given(figure[1]) || !given(figure[2])) return "";
  return `[${write(figure[1])},\u00a0${write(figure[2])}]`;
}

function withInterval(figure, write = decimals) {
  return figure ? `${write(figure[0])} ${between(figure, write)}`.trim() : NONE;
}

function seconds(value) {
  if (!given(value)) return NONE;
  if (value >= 120) return `${decimals(value / 60, 1)} min`;
  return `${decimals(value, value >= 10 ? 0 : value >= 1 ? 1 : 2)} s`;
}

function whole(value) {
  return given(value) ? Math.round(value).toLocaleString("en-GB") : NONE;
}

function percent(value) {
  if (!given(value)) return NONE;
  // No probability of ours is nought or one: more digits would say so.
  return value >= 0.9995 ? ">0.999" : value < 0.0005 ? "<0.001" : decimals(value);
}

function parts(...names) {
  return names.filter((name) => name && name !== "none");
}

/* Long names of options may break after their signs, and nowhere else look odd. */
function breakable(text) {
  return text
    .split(/(?<=[?&/+,:])/)
    .flatMap((piece) => [make("wbr"), piece])
    .slice(1);
}

/* Long names as the matrix shortens them: its legend tells what they stand for. */
function cellName(cell, inFull = false) {
  const write = (name) => (!inFull && shortNames.get(name)) || name;
  const said = [
    write(cell.vectorizer),
    ...parts(write(cell.projection), cell.merge),
    write(cell.head),
  ].join(" · ");
  return cell.name && cell.name !== cell.head ? `${cell.name} (${said})` : said;
}

function plural(count, one, many = `${one}s`) {
  return `${whole(count)} ${count === 1 ? one : many}`;
}

/* The end of a path. */
function fileName(path) {
  return path.split(/[\\/]/).pop() || path;
}

function dateWords(date) {
  const day = new Date(`${date}T00:00Z`);
  if (Number.isNaN(day.getTime())) return date;
  const how = { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" };
  return day.toLocaleDateString("en-GB", how);
}

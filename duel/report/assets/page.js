"use strict";
// Leaderboards sort by a press on a heading. Without this script they stay in order of rank.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...[...table.tHead.rows].at(-1).cells];
  headings.forEach((heading, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, headings, index));
  });
}

function sort(table, headings, index) {
  const heading = headings[index];
  const direction = heading.ariaSort === "ascending" ? "descending" : "ascending";
  headings.forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", direction);
  const compare = heading.classList.contains("number") ? byNumber : byWord;
  const sign = direction === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const order = (row) => row.cells[index].dataset.order;
  body.append(...[...body.rows].sort((a, b) => compare(order(a), order(b), sign)));
}

function byWord(a, b, sign) {
  return sign * a.localeCompare(b, undefined, { numeric: true });
}

// Rows without a number stay last in both directions.
function byNumber(a, b, sign) {
  const [x, y] = [parseFloat(a), parseFloat(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return sign * (x - y);
}

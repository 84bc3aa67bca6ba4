// Sorts a table by the column whose heading is clicked: numbers by their size, other cells by their text.
// Says what is short enough to stand in one line, and which first columns are narrow enough to stay in sight.
document.addEventListener("DOMContentLoaded", () => {
  const value = (row, column) => row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    return isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const code of document.querySelectorAll("article :not(pre) > code")) {
    code.classList.toggle("long", code.textContent.length > 40);
  }
  for (const table of document.querySelectorAll("article table:not([class])")) {
    for (const cell of table.querySelectorAll("td")) {
      cell.classList.toggle("prose", cell.textContent.length > 60);
      cell.classList.toggle("short", cell.textContent.length < 20);
    }
    const names = table.rows[0].cells[0];
    table.toggleAttribute("data-held", names.offsetWidth < 0.5 * document.body.clientWidth);
    if (!table.tBodies.length || table.tBodies[0].rows.length < 4) continue;
    for (const head of table.tHead.rows[0].cells) {
      const sort = () => {
        const up = head.ariaSort !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.ariaSort = up ? "ascending" : "descending";
        const rows = [...table.tBodies[0].rows];
        const [full, empty] = [[], []];
        for (const row of rows) (value(row, head.cellIndex) ? full : empty).push(row);
        full.sort((a, b) => (up ? 1 : -1) * compare(value(a, head.cellIndex), value(b, head.cellIndex)));
        table.tBodies[0].append(...full, ...empty);
      };
      head.classList.add("sortable");
      head.tabIndex = 0;
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
    }
  }
});

"""The page's only script: tables that sort by a column. Without it nothing is missing but that."""

from __future__ import annotations

__all__ = ["SCRIPT"]

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = [...table.tHead.rows[0].cells];
  for (const [at, head] of heads.entries()) {
    const button = head.querySelector("button");
    if (!button) continue;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending" ||
        (!head.hasAttribute("aria-sort") && head.dataset.first === "up");
      const sign = down ? 1 : -1;
      const key = (row) => row.cells[at].dataset.value ?? row.cells[at].textContent;
      const numbers = [...table.tBodies[0].rows].every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
      const compare = (a, b) => {
        if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
        return sign * (numbers ? key(a) - key(b) : key(a).localeCompare(key(b)));
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
    });
  }
}
"""

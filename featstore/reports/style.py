"""How the page looks: light, dark, on a phone, on paper."""

from __future__ import annotations

__all__ = ["SHADES", "STYLE"]

SHADES = 8
"""Steps of a matrix cell's colour; dark ink on light is kept up to the last but one, the last is ``strong``."""

_OPACITY = (0.08, 0.16, 0.24, 0.32, 0.40, 0.48, 0.57, 0.92)

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f8; --surface: #ffffff; --ink: #1b1f27; --muted: #586070; --line: #dde1e8; --soft: #eef0f4;
  --accent: #2558c9; --second: #7b8598; --bad: #b8420d; --good: #1c7a48;
  --accent-rgb: 37 88 201; --bad-rgb: 184 66 13; --on-strong: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1116; --surface: #171b22; --ink: #e7eaf0; --muted: #a2abba; --line: #2d3440; --soft: #212731;
    --accent: #7fabff; --second: #8d97a8; --bad: #ff9d68; --good: #6cd29b;
    --accent-rgb: 100 152 255; --bad-rgb: 240 122 62; --on-strong: #0b0e13;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
}
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; padding-bottom: .5rem; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.15; margin: .2rem 0 .6rem; letter-spacing: -.02em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 .35rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.pair h3:first-child { margin-top: .9rem; }
p { margin: 0 0 .8rem; max-width: 75ch; overflow-wrap: anywhere; }
a { color: var(--accent); text-underline-offset: .2em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.over { color: var(--muted); font-size: .85rem; margin: 0; }
.lead { font-size: 1.1rem; }
.note, .muted { color: var(--muted); }
.note { font-size: .92rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; padding: 0; margin: .9rem 0 1.2rem; }
nav a { font-size: .95rem; }
section { background: var(--surface); border: 1px solid var(--line); border-radius: 14px;
  padding: 1.5rem 1.6rem 1.3rem; margin: 0 0 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: .8rem; margin: 1rem 0 1.2rem;
  padding: 0; list-style: none; }
.tile { background: var(--soft); border-radius: 10px; padding: .8rem .95rem .75rem; }
.tile .name { font-size: .88rem; color: var(--muted); display: block; }
.tile .big { font-size: 1.75rem; font-weight: 650; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; display: block; }
.tile .small { font-size: .85rem; color: var(--muted); display: block; font-variant-numeric: tabular-nums; }
.words { padding: 0; margin: .4rem 0 .6rem; list-style: none; display: grid; gap: .35rem; }
.words li { padding-left: 1.6rem; position: relative; max-width: 78ch; overflow-wrap: anywhere; }
.words li::before { content: "●"; position: absolute; left: .3rem; top: .1em; font-size: .7em; color: var(--second); }
.words li.good::before { color: var(--good); }
.words li.warn::before { content: "▲"; color: var(--bad); }
.pair { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: .5rem 2rem; }
.pair > * { min-width: 0; }
figure { margin: .9rem 0 .4rem; }
figcaption, caption { text-align: left; font-weight: 600; font-size: .98rem; padding: 0 0 .35rem; }
figcaption span, caption .note { font-weight: 400; color: var(--muted); display: block; font-size: .88rem; }
svg.chart { display: block; width: 100%; height: auto; max-width: 540px; font-size: 12.5px; }
svg text { fill: var(--ink); }
svg .tick { fill: var(--muted); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .ideal { stroke: var(--second); stroke-width: 1.5; stroke-dasharray: 4 4; fill: none; }
svg .line { stroke: var(--accent); stroke-width: 2.25; fill: none; stroke-linejoin: round; }
svg .line2 { stroke: var(--second); stroke-width: 1.75; stroke-dasharray: 5 4; fill: none; stroke-linejoin: round; }
svg .limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 2 3; fill: none; }
svg .band { fill: var(--accent); opacity: .16; }
svg .dot, svg .bar { fill: var(--accent); }
svg .dot2, svg .bar2 { fill: var(--second); }
svg .worse { fill: var(--bad); }
svg .whisker { stroke: var(--accent); stroke-width: 2.25; }
svg .whisker2 { stroke: var(--second); stroke-width: 2.25; }
svg .hollow { fill: var(--surface); stroke: var(--second); stroke-width: 1.75; }
svg .points { stroke: var(--accent); stroke-width: 5; stroke-linecap: round; opacity: .45; fill: none; }
svg .track { fill: var(--line); }
svg.spark { display: inline-block; vertical-align: middle; margin-left: .5rem; }
.key { display: inline-block; width: .72em; height: .72em; border-radius: 50%; margin: 0 .35em 0 0; }
figcaption span.key { display: inline-block; }
.key.one { background: var(--accent); } .key.two { background: var(--second); } .key.bad { background: var(--bad); }
.key.hole { background: none; border: 2px solid var(--second); }
.scroll { overflow-x: auto; margin: .9rem 0 .4rem; container-type: inline-size; }
caption > * { display: block; position: sticky; left: 0; max-width: 100cqi; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: .42rem .7rem; border-bottom: 1px solid var(--line); vertical-align: middle; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { font-weight: 500; overflow-wrap: anywhere; min-width: 7rem; }
table.matrix tbody th { min-width: 4rem; }
.whole { white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; }
.legend > span { display: inline; }
.n { text-align: right; }
td.n { white-space: nowrap; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: .1rem 0; cursor: pointer;
  white-space: nowrap; }
th button::after { content: " ↕"; font-weight: 400; }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
th[aria-sort] button { color: var(--ink); }
table.matrix { width: auto; border-collapse: separate; border-spacing: 2px; }
table.matrix th, table.matrix td { border: 0; padding: .3rem .5rem; }
table.matrix td { text-align: center; min-width: 2.6rem; border-radius: 4px; background: var(--soft); }
table.matrix td.corner { background: none; }
table.matrix tbody th { text-align: right; white-space: nowrap; padding-left: 0; }
table.matrix thead th { text-align: center; white-space: nowrap; border: 0; }
table.matrix.upright thead th bdi { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
table.matrix td.strong { color: var(--on-strong); font-weight: 600; }
.gallery { list-style: none; padding: 0; margin: 1rem 0 .3rem; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); }
.gallery.texts { grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.gallery li { border: 1px solid var(--line); border-radius: 10px; overflow: hidden; font-size: .85rem;
  break-inside: avoid; min-width: 0; }
.gallery img, .gallery .none { display: block; width: 100%; height: 132px; object-fit: contain;
  background: var(--soft); }
.gallery .none { display: grid; place-items: center; color: var(--muted); }
.gallery blockquote { margin: 0; padding: .7rem .8rem; background: var(--soft); overflow-wrap: anywhere; }
.gallery .about { padding: .55rem .8rem .65rem; overflow-wrap: anywhere; }
.gallery .about p { margin: 0; }
.gallery .about .name { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gallery .said { color: var(--bad); font-weight: 600; }
details { font-size: .88rem; color: var(--muted); margin-bottom: .4rem; }
summary { cursor: pointer; }
details pre { color: var(--ink); max-height: 16rem; overflow: auto; }
.facts { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.2rem; margin: .6rem 0;
  font-size: .92rem; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: .9em;
  overflow-wrap: anywhere; }
pre { background: var(--soft); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; margin: .6rem 0; }
footer { color: var(--muted); font-size: .85rem; padding-top: .4rem; padding-bottom: 2.5rem; }
@media (max-width: 600px) {
  main, header, footer { padding-left: .8rem; padding-right: .8rem; }
  section { padding: 1.1rem .95rem .9rem; border-radius: 12px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .tile .big { font-size: 1.45rem; }
  svg.chart { font-size: 14.5px; }
  table { font-size: .88rem; }
  th, td { padding: .36rem .4rem; }
  tbody th { min-width: 5.5rem; }
  .scroll td:last-child:not(.n) { min-width: 11rem; }
  table.matrix td:last-child:not(.n) { min-width: 2.6rem; }
  .gallery { grid-template-columns: 1fr 1fr; }
  .gallery.texts { grid-template-columns: 1fr; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .5rem; }
}
@media print {
  :root { color-scheme: light; --page: #fff; --surface: #fff; --ink: #000; --muted: #444; --line: #bbb; --soft: #f2f2f2;
    --accent: #2558c9; --second: #7b8598; --bad: #b8420d; --good: #1c7a48; --accent-rgb: 37 88 201;
    --bad-rgb: 184 66 13; --on-strong: #fff; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 10.5pt; }
  main, header, footer { max-width: none; padding-left: 0; padding-right: 0; }
  nav { display: none; }
  section { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: .8rem 0; }
  figure, tr, .tile, table.matrix { break-inside: avoid; }
  h2, h3, h2 + p, h3 + p, caption, figcaption { break-after: avoid; }
  table, .facts { font-size: 8.5pt; }
  th, td { padding: .25rem .35rem; }
  .tiles { grid-template-columns: repeat(5, 1fr); gap: .4rem; }
  .tile .big { font-size: 14pt; }
  .pair { grid-template-columns: 1fr 1fr; gap: .3rem 1.2rem; }
  .pair:has(.matrix) { grid-template-columns: 1fr; }
  .gallery { grid-template-columns: repeat(6, 1fr); gap: .4rem; }
  .gallery img, .gallery .none { height: 90px; }
  .gallery li { font-size: 7.5pt; }
  .scroll { overflow: visible; }
  details { display: none; }
  th button::after { content: ""; }
}
"""

STYLE = _STYLE + "\n".join(
    f"table.matrix td.{kind}{step} {{ background: rgb(var(--{colour}-rgb) / {opacity}); }}"
    for kind, colour in (("right", "accent"), ("wrong", "bad"))
    for step, opacity in enumerate(_OPACITY, 1)
)

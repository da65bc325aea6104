#include "troupe/examples/load_test/report/html_page.hpp"

#include "troupe/examples/load_test/report/escape.hpp"

namespace troupe::load_test::report {

namespace {

constexpr std::string_view style = R"css(
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --text: #1c2430; --soft: #5b6675; --rule: #dde2e8; --grid: #e8ebef;
  --good: #16794a; --bad: #c0262d; --bad-back: #fdecec; --warn: #8a5a00; --warn-back: #fff6e0;
  --c0: #1f6fb4; --c1: #d98200; --c2: #c2412d; --c3: #1d8a63; --c4: #8a55b5; --c5: #6b7480; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14181d; --card: #1d232a; --text: #e6eaef; --soft: #9aa6b4; --rule: #333c47; --grid: #2a323b;
  --good: #4cc38a; --bad: #ff7b78; --bad-back: #3a1f22; --warn: #f0b64a; --warn-back: #352b16;
  --c0: #62aef0; --c1: #f2b04c; --c2: #ff8068; --c3: #58c79a; --c4: #c39be8; --c5: #a4aebb; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 1.5rem; margin: 0 0 4px; } h2 { font-size: 1.1rem; margin: 30px 0 10px; }
h3 { font-size: 1rem; margin: 18px 0 8px; }
header p { margin: 0; color: var(--soft); overflow-wrap: anywhere; }
.box { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px 14px; }
.remark { border-radius: 8px; padding: 10px 14px; margin: 10px 0; border-left: 5px solid; }
.remark.spoilt { color: var(--bad); background: var(--bad-back); border-color: var(--bad); font-weight: 600; }
.remark.warning { color: var(--warn); background: var(--warn-back); border-color: var(--warn); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 10px; margin-top: 16px; }
.cards .box { padding: 10px 14px; } .cards span { display: block; color: var(--soft); font-size: .84rem; }
.cards b { font-size: 1.45rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.cards small { display: block; color: var(--soft); font-size: .78rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 12px; }
.chart { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 10px 10px 6px; min-width: 0; }
.chart figcaption { display: flex; flex-wrap: wrap; gap: 2px 12px; padding: 0 4px 4px; font-size: .86rem; }
.chart figcaption b { flex: 0 0 100%; }
.chart svg { display: block; width: 100%; height: auto; touch-action: pan-y; }
.key, figcaption .note { color: var(--soft); white-space: nowrap; } p.note { color: var(--soft); font-size: .86rem; }
.key::before { content: ""; display: inline-block; width: 14px; height: 3px; margin-right: 5px; vertical-align: middle; background: var(--c5); }
.key.c0::before { background: var(--c0); } .key.c1::before { background: var(--c1); }
.key.c2::before { background: var(--c2); } .key.c3::before { background: var(--c3); }
.key.c4::before { background: var(--c4); }
.key.bound::before { height: 0; border-top: 2px dashed var(--soft); background: none; }
svg text { font-size: 12.5px; fill: var(--soft); } svg .tick.y, svg .end { text-anchor: end; }
svg .tick.x, svg .title { text-anchor: middle; } svg .mark { font-size: 11.5px; }
.grid { stroke: var(--grid); } .grid.minor { stroke: var(--grid); opacity: .55; } .axis { stroke: var(--soft); }
.line { fill: none; stroke: var(--c5); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); }
.line.c3 { stroke: var(--c3); } .line.c4 { stroke: var(--c4); }
.band { fill: var(--c5); opacity: .16; } .dot, .bar { fill: var(--c5); }
.band.c0, .dot.c0, .bar.c0 { fill: var(--c0); } .band.c1, .dot.c1, .bar.c1 { fill: var(--c1); }
.band.c2, .dot.c2, .bar.c2 { fill: var(--c2); } .band.c3, .dot.c3, .bar.c3 { fill: var(--c3); }
.band.c4, .dot.c4, .bar.c4 { fill: var(--c4); }
.bound { stroke: var(--soft); stroke-dasharray: 5 4; } .cursor { stroke: var(--soft); visibility: hidden; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; font-size: .86rem; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--rule); } tr:last-child td { border-bottom: 0; }
.figures td:not(:first-child), .figures th:not(:first-child) { text-align: right; white-space: nowrap; }
.settings td { overflow-wrap: anywhere; } .settings td:first-child { color: var(--soft); width: 30%; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; overflow-wrap: anywhere; }
td code { white-space: nowrap; } td.why { min-width: 14em; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.share { height: 9px; min-width: 2px; background: var(--bad); border-radius: 3px; }
details { margin: 10px 0; } summary { cursor: pointer; padding: 8px 2px; font-weight: 600; }
#tip { position: fixed; display: none; pointer-events: none; z-index: 9; padding: 6px 10px; font-size: .82rem;
  background: var(--card); border: 1px solid var(--rule); border-radius: 6px; box-shadow: 0 3px 12px #0004; max-width: 90vw; }
#tip div { display: flex; gap: 14px; justify-content: space-between; }
@media (max-width: 520px) { main { padding: 14px 10px 32px; } th, td { padding: 4px 7px; } .cards b { font-size: 1.2rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: 8px; } .cards .box { padding: 8px 10px; } }
@media print { .chart, .box { break-inside: avoid; } }
)css";

/// Texts go in as textContent, so nothing in them can become markup.
constexpr std::string_view script = R"js(
const tip = document.getElementById("tip");
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const points = JSON.parse(svg.dataset.hover), cursor = svg.querySelector(".cursor");
  const hide = () => { tip.style.display = "none"; cursor.style.visibility = "hidden"; };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", e => {
    if (!points.length) return;
    const box = svg.getBoundingClientRect();
    const x = (e.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const p = points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    cursor.setAttribute("x1", p[0]); cursor.setAttribute("x2", p[0]); cursor.style.visibility = "visible";
    const head = document.createElement("b"); head.textContent = p[1];
    tip.replaceChildren(head, ...p[2].map(([kind, name, value]) => {
      const row = document.createElement("div"), key = document.createElement("span"), text = document.createElement("span");
      key.className = "key " + kind; key.textContent = name; text.textContent = value;
      row.append(key, text); return row; }));
    tip.style.display = "block";
    const w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = Math.max(4, e.clientX + 14 + w > innerWidth ? e.clientX - w - 14 : e.clientX + 14) + "px";
    tip.style.top = Math.max(4, Math.min(e.clientY + 14, innerHeight - h - 4)) + "px";
  });
}
)js";

} // namespace

std::string html_page(std::string_view title, const std::string& body) {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
                    "<link rel=\"icon\" href=\"data:,\">\n<title>";
  out += html_text(title);
  out.append("</title>\n<style>").append(style).append("</style></head>\n<body><main>\n");
  out.append(body).append("</main>\n<div id=\"tip\"></div>\n<script>").append(script);
  return out + "</script></body></html>\n";
}

} // namespace troupe::load_test::report

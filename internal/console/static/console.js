// What the pages do with JavaScript: local times, shortcuts, copying, and the state of the
// live connection. Everything else is HTML, and htmx.
"use strict";

const day = new Intl.DateTimeFormat(undefined, {dateStyle: "medium"});
const clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit"});

// localTimes shows times in the zone of the browser; UTC stays in the title.
function localTimes(root) {
  for (const e of root.querySelectorAll("time[datetime]")) {
    const at = new Date(e.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const today = new Date().toDateString() === at.toDateString();
    const text = today ? clock.format(at) : day.format(at) + ", " + clock.format(at);
    if (e.textContent !== text) e.textContent = text;
  }
}

// Updates bring times in UTC, which are converted before they are painted.
new MutationObserver(() => localTimes(document)).observe(document.body, {childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["datetime"]});
localTimes(document);

document.querySelector("nav [aria-current]")?.scrollIntoView({block: "nearest", inline: "nearest"}); // where the menu scrolls

const live = document.getElementById("live");

function showLive(state, text) {
  if (!live || live.dataset.live === state) return;
  live.dataset.live = state;
  live.querySelector(".label").textContent = text;
}

document.addEventListener("htmx:sse:after:message", () => showLive("on", "Live"));
for (const event of ["htmx:sse:error", "htmx:sse:close"]) {
  document.addEventListener(event, () => showLive("off", "Not live: the connection was lost, and is tried again"));
}
document.addEventListener("signed-out", () => location.reload());

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

const pages = {n: "/", r: "/requests", b: "/batches", f: "/failed", h: "/held", c: "/callbacks", a: "/account"};
let afterG = false;

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, select, textarea, dialog[open]")) return;
  const find = document.getElementById("find");
  const shortcuts = document.getElementById("shortcuts");
  if (!find) return;
  if (afterG && pages[e.key]) location.assign(pages[e.key]);
  afterG = e.key === "g";
  if (e.key === "/") find.focus();
  else if (e.key === "?") shortcuts.showModal();
  else return;
  e.preventDefault();
});

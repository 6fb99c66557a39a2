// What the pages do with JavaScript: local times, shortcuts, copying, and the state of the
// live connection. Everything else is HTML, and htmx.
"use strict";

const day = new Intl.DateTimeFormat(undefined, {dateStyle: "medium"});
const clock = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit"});
const minute = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit"});

// localTimes shows times in the zone of the browser; UTC stays in the title.
function localTimes(root) {
  for (const e of root.querySelectorAll("time[datetime]")) {
    const at = new Date(e.dateTime);
    if (Number.isNaN(at.getTime()) || "minute" in e.dataset) continue;
    const today = new Date().toDateString() === at.toDateString();
    const text = today ? clock.format(at) : day.format(at) + ", " + clock.format(at);
    if (e.textContent !== text) e.textContent = text;
  }
  for (const e of root.querySelectorAll("[data-minute]")) {
    const utc = /^\d\d:\d\d UTC/;
    const at = new Date(e.dataset.minute || e.dateTime);
    if (utc.test(e.textContent)) e.textContent = e.textContent.replace(utc, minute.format(at));
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

// The server sends an update every second, but none while Redis does not answer.
let quiet;
document.addEventListener("htmx:sse:after:message", () => {
  showLive("on", "Live");
  clearTimeout(quiet);
  quiet = setTimeout(() => showLive("off", "Not live: no update has come for 5 seconds"), 5000);
});
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

// Uploads. The server does not keep the file between the check and the import, so that the page
// sends it again. Without JavaScript, the person chooses it again.
const sizes = new Intl.NumberFormat(undefined, {style: "unit", unit: "megabyte", maximumFractionDigits: 1});

function tellUpload(form, problem, state) {
  const shown = form.querySelector("p.problem");
  shown.textContent = problem;
  shown.hidden = problem === "";
  form.querySelector("[data-upload-state]").textContent = state;
}

function sendUpload(form, button) {
  const files = form.elements.file.files;
  if (files[0].size > Number(form.dataset.limit)) {
    tellUpload(form, "The file has " + sizes.format(files[0].size / 1e6) + ", and at most " + sizes.format(form.dataset.limit / 1e6) + " can be imported here.", "");
    return;
  }
  const bar = form.querySelector("progress");
  const request = new XMLHttpRequest();
  const ended = (problem) => {
    form.removeAttribute("aria-busy");
    bar.hidden = true;
    for (const b of form.querySelectorAll("button")) b.disabled = false;
    tellUpload(form, problem, "");
  };
  request.open("POST", button?.getAttribute("formaction") || form.action);
  request.responseType = "document";
  request.upload.addEventListener("progress", (e) => {
    bar.max = e.total;
    bar.value = e.loaded;
  });
  request.upload.addEventListener("load", () => {
    bar.removeAttribute("value");
    tellUpload(form, "", "The file has arrived. It is being read…");
  });
  request.addEventListener("error", () => ended("The connection was lost before the answer. Try again: no row is accepted twice."));
  request.addEventListener("load", () => {
    const main = request.response?.getElementById("main");
    const refusal = main?.querySelector(".door");
    if (!main || refusal) {
      ended(refusal ? refusal.querySelector("h1").textContent + ". " + refusal.querySelector("h1 + p").textContent : "The server did not answer as expected.");
      return;
    }
    document.title = request.response.title;
    document.getElementById("main").replaceWith(document.adoptNode(main));
    const again = main.querySelector("form[data-upload]");
    if (again) {
      again.elements.file.files = files;
      for (const hint of again.querySelectorAll("[data-again]")) hint.hidden = true;
    }
    main.focus();
    scrollTo(0, 0);
  });
  const body = new FormData(form);
  form.setAttribute("aria-busy", "true");
  bar.hidden = false;
  for (const b of form.querySelectorAll("button")) b.disabled = true;
  tellUpload(form, "", "Sending the file…");
  request.send(body);
}

document.addEventListener("submit", (e) => {
  if (!e.target.matches("form[data-upload]") || e.submitter?.hasAttribute("data-download")) return;
  e.preventDefault();
  sendUpload(e.target, e.submitter);
});

// A second click while a form is being sent does not send it again.
document.addEventListener("submit", (e) => {
  const form = e.target;
  if (form.method !== "post" || form.matches("[data-upload], [data-download]")) return;
  if ("sent" in form.dataset) e.preventDefault();
  form.dataset.sent = "";
  setTimeout(() => delete form.dataset.sent, 10000); // the person may have stopped the browser
});

for (const event of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(event, (e) => {
    const zone = e.target.closest?.(".drop");
    if (zone) zone.toggleAttribute("data-over", event === "dragenter" || event === "dragover");
  });
}

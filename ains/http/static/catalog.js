"use strict";

const search = document.querySelector("#search");
const found = document.querySelector("#found");
const nothing = document.querySelector("#nothing");
const families = [...document.querySelectorAll("tbody tr:not(.subject)")];
const texts = new Map(families.map((row) => [row, row.textContent.toLowerCase()]));

// Every word has to be somewhere in a family's row; the address remembers them.
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of families) {
    row.hidden = !words.every((word) => texts.get(row).includes(word));
    shown += !row.hidden;
  }
  for (const body of document.querySelectorAll("tbody")) {
    body.hidden = !body.querySelector("tr:not(.subject):not([hidden])");
  }
  nothing.hidden = shown > 0;
  found.textContent = words.length ? `${shown} of ${families.length}` : "";
  const address = new URL(location);
  if (words.length) address.searchParams.set("q", search.value);
  else address.searchParams.delete("q");
  if (address.href !== location.href) history.replaceState(null, "", address);
}

search.value = new URLSearchParams(location.search).get("q") ?? "";
search.addEventListener("input", filter);
search.form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== search) {
    event.preventDefault();
    search.focus();
  }
});
if (search.value) filter();

for (const block of document.querySelectorAll("figure")) {
  const copy = document.createElement("button");
  copy.type = "button";
  copy.textContent = "Copy";
  copy.setAttribute("aria-label", `Copy: ${block.querySelector("figcaption").textContent}`);
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("code").textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1200);
  });
  // Without https, and not at localhost, a browser keeps its clipboard to itself.
  if (navigator.clipboard) block.append(copy);
}

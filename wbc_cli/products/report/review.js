// One cell at a time: what its class rests on, and what the reviewer says it is.

const dialog = document.getElementById("cell");
const part = (name) => document.getElementById(`cell-${name}`);
const FIGURES = [
  "Area, µm²", "Nucleus, µm²", "Saliency", "Grad-CAM in the cell", "Grad-CAM like the prior", "Grad-CAM stays when shifted",
];
let place = 0;

function open(at) {
  place = at;
  const cell = shown[place], kind = givenClass(cell), source = pictureOf(cell), other = likeliestIfOther(cell);
  part("title").replaceChildren(swatch(kind), kind.label + (other && `, likeliest ${other}`));
  part("picture").hidden = !source;
  if (source) part("picture").src = source;
  part("picture").alt = `${kind.label}, cell ${data.id[cell]}`;
  part("place").textContent =
    `${slideName(cell)}, cell ${data.id[cell]} at ${data.x[cell]}, ${data.y[cell]} px; ${place + 1} of ${shown.length} shown`;
  part("look").textContent = lookOf(cell);
  part("flags").replaceChildren(...flagsOf(cell).map((flag) => element("li", "warn", flagInWords(flag))));
  part("figures").replaceChildren(...FIGURES.map((name, i) => {
    const row = element("div");
    row.append(element("dt", "", name), element("dd", "", data.figures[cell][i]?.toFixed(i < 2 ? 1 : 2) ?? "type clear"));
    return row;
  }));
  part("classes").querySelectorAll("button").forEach((button, i) => {
    button.setAttribute("aria-pressed", button.value === said.get(cell)?.className);
    if (i >= data.probabilities) return; // unidentified has none
    button.querySelector("progress").value = data.p[cell][i];
    button.querySelector("b").textContent = `${data.p[cell][i].toFixed(1)} %`;
  });
  document.getElementById("previous").disabled = place === 0;
  document.getElementById("next").disabled = place === shown.length - 1;
  document.getElementById("undo").disabled = !said.has(cell);
  document.getElementById("confirm").textContent = `Confirm: ${confirmedClass(cell).label} (Enter)`;
  if (!dialog.open) dialog.showModal();
  dialog.focus(); // so that Enter confirms, and presses a button only where the reviewer has gone to it
}

function classButton(kind, i) {
  const button = element("button", "bar"), name = element("span");
  button.type = "button";
  button.value = kind.name;
  name.append(swatch(kind), kind.label);
  button.append(element("kbd", "", (i + 1) % 10), name);
  if (i < data.probabilities) {
    const length = element("progress");
    length.max = 100;
    length.setAttribute("aria-label", kind.label);
    button.append(length, element("b"));
  }
  button.addEventListener("click", () => decide(kind.name));
  return button;
}

function walk(step) {
  if (place + step >= 0 && place + step < shown.length) open(place + step);
}

function decide(className) {
  say(shown[place], className);
  showProgress();
  open(place);
}

function confirmCell() {
  decide(confirmedClass(shown[place]).name);
  walk(1);
}

part("classes").append(...data.classes.map(classButton));
document.getElementById("previous").addEventListener("click", () => walk(-1));
document.getElementById("next").addEventListener("click", () => walk(1));
document.getElementById("confirm").addEventListener("click", confirmCell);
document.getElementById("undo").addEventListener("click", () => decide(null));
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") walk(-1);
  else if (event.key === "ArrowRight") walk(1);
  else if (event.key === "Enter" && event.target === dialog) confirmCell();
  else if (/^\d$/.test(event.key)) {
    decide(data.classes[(Number(event.key) + 9) % 10].name);
    if (isTeaching()) walk(1); // a hundred cells, a key each
  }
});
dialog.addEventListener("close", () => {
  redraw();
  focusCard(place);
});
grid.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (card) open(Number(card.dataset.place));
});

const reviewer = filters.elements.reviewer;
reviewer.value = kept(reviewerKey) ?? "";
reviewer.addEventListener("change", () => keep(reviewerKey, reviewer.value.trim()));
document.getElementById("export").addEventListener("click", () => {
  if (!reviewer.reportValidity()) return; // who says so is a part of it
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([correctionsCsv(reviewer.value.trim())], { type: "text/csv" }));
  link.download = "corrections.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});

fillFilters();
update();

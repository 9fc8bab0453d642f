// The gallery: a card for each cell in view, and for no other, so that twenty thousand cost what fifty do.

const CARD = 152, CARD_HEIGHT = 220, GAP = 8, BEYOND = 600, PRINTED = 60;
const grid = document.getElementById("grid");
const filters = document.getElementById("filters");
const cards = new Map(); // by place in `shown`
let shown = [];
let columns = 1;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function swatch(kind) {
  return element("i", `swatch c-${kind.name}`);
}

function classLabel(name) {
  return data.classes.find((kind) => kind.name === name).label;
}

function makeCard(cell, place) {
  const card = element("button", said.has(cell) ? "card reviewed" : "card");
  card.type = "button";
  card.dataset.place = place;
  card.dataset.cell = cell;
  const source = pictureOf(cell);
  const picture = element(source ? "img" : "div", source ? "" : "none");
  if (source) {
    picture.src = source;
    picture.alt = "";
  }
  const what = element("span", "what");
  what.append(swatch(givenClass(cell)), givenClass(cell).label);
  const reviewed = said.has(cell) ? `✓ ${classLabel(said.get(cell).className)}` : flagsOf(cell).join(", ");
  card.append(
    picture, what,
    element("span", "", `${data.confidence[cell].toFixed(1)} % ${likeliestIfOther(cell)}`),
    element("span", "why", `${slideName(cell)} #${data.id[cell]}`),
    element("span", "why", reviewed),
  );
  card.title = `${slideName(cell)}, cell ${data.id[cell]}${lookOf(cell) && `: ${lookOf(cell)}`}`;
  const item = element("div");
  item.setAttribute("role", "listitem");
  item.setAttribute("aria-setsize", shown.length);
  item.setAttribute("aria-posinset", place + 1);
  item.append(card);
  return item;
}

function render() {
  const width = grid.clientWidth;
  columns = Math.max(1, Math.floor((width + GAP) / (CARD + GAP)));
  const wide = (width + GAP) / columns - GAP;
  grid.style.height = `${Math.ceil(shown.length / columns) * (CARD_HEIGHT + GAP)}px`;
  const top = -grid.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor((top - BEYOND) / (CARD_HEIGHT + GAP))) * columns;
  const last = Math.min(shown.length, Math.ceil((top + innerHeight + BEYOND) / (CARD_HEIGHT + GAP)) * columns);
  for (const [place, item] of cards) {
    // the one that has the focus stays: who walks by keyboard would be lost without it
    if ((place < first || place >= last) && !item.contains(document.activeElement)) {
      item.remove();
      cards.delete(place);
    }
  }
  for (let place = first; place < last; place++) {
    if (!cards.has(place)) {
      const item = makeCard(shown[place], place);
      const after = [...cards.keys()].filter((other) => other > place).sort((a, b) => a - b)[0];
      grid.insertBefore(item, after === undefined ? null : cards.get(after));
      cards.set(place, item);
    }
    const card = cards.get(place).firstChild;
    card.style.width = `${wide}px`;
    card.style.left = `${(place % columns) * (wide + GAP)}px`;
    card.style.top = `${Math.floor(place / columns) * (CARD_HEIGHT + GAP)}px`;
  }
}

function redraw() {
  for (const item of cards.values()) item.remove();
  cards.clear();
  render();
}

function update() {
  shown = chosenCells(Object.fromEntries(new FormData(filters)));
  const cells = shown.length === 1 ? "1 cell" : `${shown.length.toLocaleString("en")} cells`;
  document.getElementById("shown").textContent = shown.length ? `${cells} shown.` : "No cell fits these filters.";
  filters.elements.order.disabled = isTeaching();
  showProgress();
  redraw();
}

const isTeaching = () => filters.elements.view.value === "teaching";

// How many are reviewed and, of those to teach, as what: a profile learns a class from three cells on.
function showProgress() {
  document.getElementById("n-reviewed").textContent = said.size;
  const line = document.getElementById("progress"), done = shown.filter((cell) => said.has(cell));
  line.hidden = !isTeaching();
  const counts = data.classes.map((kind) => [kind.label, done.filter((cell) => said.get(cell).className === kind.name).length]);
  const parts = counts.filter(([, number]) => number).map(([label, number]) => `${label} ${number}`);
  line.textContent = `Reviewed ${done.length} of ${shown.length}${parts.length ? `: ${parts.join(", ")}` : ""}.`;
}

function focusCard(place) {
  if (place < 0 || place >= shown.length) return;
  const at = grid.getBoundingClientRect().top + scrollY + Math.floor(place / columns) * (CARD_HEIGHT + GAP);
  if (at < scrollY + 60 || at + CARD_HEIGHT > scrollY + innerHeight) scrollTo(0, at - innerHeight / 2 + CARD_HEIGHT / 2);
  render();
  cards.get(place).firstChild.focus({ preventScroll: true });
}

function option(select, value, text) {
  const made = element("option", "", text);
  made.value = value;
  select.append(made);
}

function fillFilters() {
  const number = (n) => n.toLocaleString("en");
  document.getElementById("n-queue").textContent = number(queue.size);
  document.getElementById("n-all").textContent = number(count);
  const used = new Set(data.class), slides = new Set(data.slide), flags = new Set();
  for (let cell = 0; cell < count; cell++) flagsOf(cell).forEach((flag) => flags.add(flag));
  data.classes.forEach((kind, i) => used.has(i) && option(filters.elements.class, i, kind.label));
  data.samples.forEach((name, i) => option(filters.elements.sample, i, name));
  data.slides.forEach(([name], i) => slides.has(i) && option(filters.elements.slide, i, name));
  [...flags].sort().forEach((flag) => option(filters.elements.flag, flag, `${flag}: ${flagInWords(flag)}`));
}

let waiting = false;
function renderSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    render();
  });
}

addEventListener("scroll", renderSoon, { passive: true });
new ResizeObserver(renderSoon).observe(document.body); // what stands above may grow as well
filters.addEventListener("input", update);
filters.addEventListener("change", update);
filters.addEventListener("submit", (event) => event.preventDefault());
grid.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (step === undefined || !event.target.dataset.place) return;
  event.preventDefault();
  focusCard(Number(event.target.dataset.place) + step);
});

// On paper: the first cells of what is shown.
addEventListener("beforeprint", () => {
  for (const item of cards.values()) item.remove();
  cards.clear();
  grid.classList.add("printed");
  if (shown.length > PRINTED) {
    document.getElementById("shown").textContent = `The first ${PRINTED} of ${shown.length.toLocaleString("en")} cells.`;
  }
  shown.slice(0, PRINTED).forEach((cell, place) => {
    const item = makeCard(cell, place);
    cards.set(place, item);
    grid.append(item);
  });
});
addEventListener("afterprint", () => {
  grid.classList.remove("printed");
  update();
});

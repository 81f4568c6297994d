"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const filters = byId("filters"), faces = byId("faces"), more = byId("more"), detail = byId("detail");
  const cells = [...document.querySelectorAll("#cells button")];
  const verdictNames = byId("verdict") ? [...byId("verdict").options].slice(1).map((o) => o.textContent) : [];
  const voteNames = [...data.names.slice(0, 7), "contempt", "unknown", "not a face"];
  const PAGE = 60;
  let chosen = [], shown = 0, open = -1;

  const predicted = (i) => data.order[i][0];
  const confidence = (i) => data.scores[i][0] / 10;
  const named = (i) => (data.files.length ? data.files[i] : "row " + data.rows[i]);
  const percent = (thousandths) => (thousandths / 10).toFixed(1) + " %";

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function face(i, size) {
    const tile = data.tiles ? data.tiles[i] : -1;
    if (tile < 0) return null;
    const sheet = Math.floor(tile / data.tilesASheet), place = tile % data.tilesASheet;
    const x = place % data.columns, y = Math.floor(place / data.columns);
    const made = element("span", { class: "face s" + sheet, "aria-hidden": "true" });
    Object.assign(made.style, {
      width: size + "px", height: size + "px", backgroundSize: data.columns * size + "px auto",
      backgroundPosition: `${-x * size}px ${-y * size}px`,
    });
    return made;
  }

  function item(position) {
    const i = chosen[position], right = predicted(i) === data.labels[i];
    const answer = element("span", right ? {} : { class: "wrong" }, data.names[predicted(i)]);
    const caption = element("span", {}, data.names[data.labels[i]], " → ", answer, element("br", {}), percent(data.scores[i][0]));
    const label = `${named(i)}: true ${data.names[data.labels[i]]}, predicted ${data.names[predicted(i)]}, ${percent(data.scores[i][0])}`;
    const button = element("button", { type: "button", "aria-label": label, "data-index": i });
    const picture = face(i, 92);
    button.append(...(picture ? [picture] : [element("small", {}, named(i)), element("br", {})]), caption);
    button.addEventListener("click", () => show(position));
    return element("li", {}, button);
  }

  function extend() {
    const part = document.createDocumentFragment();
    const end = Math.min(shown + PAGE, chosen.length);
    for (; shown < end; shown++) part.append(item(shown));
    faces.append(part);
    more.hidden = shown >= chosen.length;
    more.textContent = `Show more (${chosen.length - shown} left)`;
  }

  function update() {
    const number = (id) => (byId(id) && byId(id).value !== "" ? Number(byId(id).value) : null);
    const truth = number("true"), guess = number("predicted"), verdict = number("verdict");
    const outcome = byId("outcome").value, low = number("low") ?? 0, high = number("high") ?? 100;
    chosen = [];
    for (let i = 0; i < data.labels.length; i++) {
      const right = predicted(i) === data.labels[i];
      if ((truth === null || data.labels[i] === truth) && (guess === null || predicted(i) === guess) &&
          (verdict === null || data.verdicts[i] === verdict) && (!outcome || right === (outcome === "right")) &&
          confidence(i) >= low && confidence(i) <= high) chosen.push(i);
    }
    const sort = byId("sort").value;
    if (sort === "row") chosen.sort((a, b) => data.rows[a] - data.rows[b]);
    else chosen.sort((a, b) => (sort === "sure" ? -1 : 1) * (data.scores[a][0] - data.scores[b][0]) || a - b);
    for (const cell of cells) {
      cell.setAttribute("aria-pressed", String(Number(cell.dataset.true) === truth && Number(cell.dataset.predicted) === guess));
    }
    byId("status").textContent = `${chosen.length} of ${data.labels.length} ${data.tiles ? "images" : "predictions"}`;
    faces.replaceChildren();
    shown = 0;
    extend();
  }

  function scores(rows) {
    const body = element("tbody", {});
    for (const [name, text, share] of rows) {
      const bar = element("i", {});
      Object.assign(bar.style, { width: share + "%", background: "#7fbde0" });
      body.append(element("tr", {}, element("th", { scope: "row" }, name),
        element("td", { style: "width:60%" }, element("div", { class: "track" }, bar, element("b", {}, text)))));
    }
    return element("table", { class: "data" }, body);
  }

  function show(position) {
    open = position;
    const i = chosen[position], body = byId("detail-body");
    byId("detail-title").textContent = `${named(i).replace(/^row/, "Row")}: true ${data.names[data.labels[i]]}, predicted ${data.names[predicted(i)]}`;
    const picture = face(i, 192);
    body.replaceChildren(...(picture ? [picture] : []), element("h3", {}, "Probabilities"),
      scores(data.order[i].map((c, k) => [data.names[c], percent(data.scores[i][k]), data.scores[i][k] / 10])));
    if (data.votes) {
      const votes = data.votes[i], all = votes.reduce((a, b) => a + b, 0);
      const rows = votes.map((count, k) => [voteNames[k], String(count), all ? 100 * count / all : 0]).filter((row) => row[1] !== "0");
      body.append(element("h3", {}, `Votes: the majority agrees with: ${verdictNames[data.verdicts[i]]}`), scores(rows));
    }
    byId("previous").disabled = position === 0;
    byId("next").disabled = position === chosen.length - 1;
    if (!detail.open) detail.showModal();
    byId("detail-title").focus();
  }

  function close() {
    if (detail.open) detail.close();
  }

  filters.addEventListener("input", update);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(update));
  more.addEventListener("click", () => {
    const first = shown;
    extend();
    faces.children[first].firstChild.focus();
  });
  byId("close").addEventListener("click", close);
  byId("previous").addEventListener("click", () => show(open - 1));
  byId("next").addEventListener("click", () => show(open + 1));
  detail.addEventListener("click", (event) => { if (event.target === detail) close(); });
  detail.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" && open > 0) show(open - 1);
    if (event.key === "ArrowRight" && open < chosen.length - 1) show(open + 1);
  });
  detail.addEventListener("close", () => {
    while (shown <= open) extend();
    faces.children[open].firstChild.focus();
  });

  const steps = { ArrowUp: -data.names.length, ArrowDown: data.names.length, ArrowLeft: -1, ArrowRight: 1 };
  cells.forEach((cell, place) => {
    cell.addEventListener("click", () => {
      filters.reset();
      byId("true").value = cell.dataset.true;
      byId("predicted").value = cell.dataset.predicted;
      update();
      byId("images").scrollIntoView();
      byId("images").focus({ preventScroll: true });
    });
    cell.addEventListener("keydown", (event) => {
      const target = cells[place + (steps[event.key] ?? NaN)];
      const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
      if (!target || (sideways && target.dataset.true !== cell.dataset.true)) return;
      event.preventDefault();
      cell.tabIndex = -1;
      target.tabIndex = 0;
      target.focus();
    });
  });
  update();
})();

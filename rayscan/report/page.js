"use strict";
// Draws the clusters and neighbors from the JSON block. Foreign text is only ever set as text, never as markup.
(() => {
  const PER_PAGE = 20, STRIP = 5, TINY_PX = 32;
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = id => document.getElementById(id);
  const clusters = data.clusters.map(([number, name, size, confidence, purity, label, typical, doubtful]) =>
    ({ number, name, size, confidence, purity, label, typical, doubtful,
       text: `${name} ${label ?? ""}`.toLowerCase() }));
  const orders = {
    number: (a, b) => a.number - b.number,
    largest: (a, b) => b.size - a.size || a.number - b.number,
    smallest: (a, b) => a.size - b.size || a.number - b.number,
    doubtful: (a, b) => a.confidence - b.confidence || a.number - b.number,
    mixed: (a, b) => (a.purity ?? 2) - (b.purity ?? 2) || a.number - b.number,
  };
  let shown = clusters, page = 0;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function image(url, alt) {
    const made = element("img");
    made.alt = alt;
    made.addEventListener("load", () => {
      if (Math.max(made.naturalWidth, made.naturalHeight) <= TINY_PX) made.classList.add("tiny");
    });
    made.src = url;
    return made;
  }

  // A picture one can pick: `caption` below it, its whole story in `detail` when picked.
  function picture(gid, caption, detail, other) {
    const [name, cluster, confidence, margin, url] = data.pictures[gid];
    const button = element("button", "picture");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(url ? image(url, name) : element("span", "nameless", name), element("span", "", caption));
    if (other) button.append(element("span", "other", other));
    button.addEventListener("click", () => {
      for (const picked of document.querySelectorAll('.picture[aria-pressed="true"]')) picked.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", "true");
      detail.textContent = `${name}: cluster ${cluster}, confidence ${confidence.toFixed(3)}, margin ${margin.toFixed(3)}, gid ${gid}`;
    });
    return button;
  }

  function statusLine() {
    const line = element("p", "detail");
    line.setAttribute("role", "status");
    return line;
  }

  function grid(title, gids, detail) {
    const kept = gids.filter(gid => data.pictures[gid]);
    if (!kept.length) return [];
    const box = element("div", "grid");
    box.append(...kept.map(gid => picture(gid, data.pictures[gid][2].toFixed(3), detail)));
    return [element("h3", "", title), box];
  }

  function fact(name, value) {
    const span = element("span", "", `${name} `);
    span.append(element("b", "", value));
    return span;
  }

  function summary(c) {
    const made = element("summary"), title = element("span", "title", c.name || `Cluster ${c.number}`);
    const beside = [c.name ? `cluster ${c.number}` : "", c.label !== null ? `mostly ${c.label}` : ""].filter(Boolean).join(", ");
    if (beside) title.append(element("small", "", beside));
    const numbers = element("span", "numbers"), strip = element("span", "strip");
    numbers.append(fact("images", c.size.toLocaleString("en-US")), fact("confidence", c.confidence.toFixed(3)));
    if (c.purity !== null) numbers.append(fact("purity", `${(100 * c.purity).toFixed(1)}%`));
    for (const gid of c.typical.slice(0, STRIP)) {
      const [, , , , url] = data.pictures[gid] ?? [];
      if (url) strip.append(image(url, ""));
    }
    made.append(title, numbers, strip);
    return made;
  }

  function body(c) {
    const made = element("div", "body"), detail = statusLine();
    made.append(...grid("Most typical", c.typical, detail), ...grid("Least certain", c.doubtful, detail));
    made.append(made.childElementCount ? detail : element("p", "quiet", c.size ? "No pictures of this cluster are in the page." : "No image is in this cluster."));
    return made;
  }

  function clusterElement(c) {
    const made = element("details", "cluster");
    made.id = `cluster-${c.number}`;
    made.append(summary(c));
    made.addEventListener("toggle", () => {
      if (made.open && !made.querySelector(".body")) made.append(body(c));
    });
    return made;
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    byId("list").replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(clusterElement));
    byId("found").textContent = `${shown.length.toLocaleString("en-US")} of ${clusters.length.toLocaleString("en-US")} clusters`;
    byId("pager").hidden = pages === 1;
    byId("where").textContent = `Page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
  }

  function choose() {
    const words = byId("query").value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = clusters.filter(c => words.every(word => String(c.number) === word || c.text.includes(word)))
      .sort(orders[byId("order").value]);
    page = 0;
    draw();
  }

  function turn(by) {
    page += by;
    draw();
    byId("clusters").scrollIntoView();
  }

  // A link to #cluster-12 shows and opens that cluster, on whatever page of the list it is.
  function follow() {
    const [, number] = location.hash.match(/^#cluster-(\d+)$/) ?? [];
    if (number === undefined) return;
    if (!shown.some(c => c.number === Number(number))) { byId("query").value = ""; choose(); }
    const at = shown.findIndex(c => c.number === Number(number));
    if (at < 0) return;
    page = Math.floor(at / PER_PAGE);
    draw();
    const target = byId(`cluster-${number}`);
    target.open = true;
    target.scrollIntoView();
  }

  function drawNeighbors() {
    const rows = byId("rows");
    if (!rows) return;
    for (const [anchor, ids, scores] of data.neighbors) {
      if (!data.pictures[anchor]) continue;
      const row = element("div", "row"), detail = statusLine(), cluster = data.pictures[anchor][1];
      row.append(picture(anchor, `cluster ${cluster}`, detail));
      ids.forEach((gid, i) => {
        if (!data.pictures[gid]) return;
        const its = data.pictures[gid][1];
        row.append(picture(gid, scores[i].toFixed(3), detail, its === cluster ? "" : `in ${its}`));
      });
      rows.append(row, detail);
    }
  }

  byId("controls").addEventListener("submit", event => event.preventDefault());
  byId("query").addEventListener("input", choose);
  byId("order").addEventListener("change", choose);
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  addEventListener("hashchange", follow);
  choose();
  drawNeighbors();
  follow();
})();

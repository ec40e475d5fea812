"use strict";
// Draws the clusters and neighbors from the JSON block. Foreign text is only ever set as text, never as markup.
(() => {
  const PER_PAGE = 20, STRIP = 5, TINY_PX = 32;
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = id => document.getElementById(id);
  const edits = makeEdits(data), opened = new Set();
  const bar = makeEditBar(edits, () => { choose(page); });
  const orders = {
    number: (a, b) => a.number - b.number,
    largest: (a, b) => b.size - a.size || a.number - b.number,
    smallest: (a, b) => a.size - b.size || a.number - b.number,
    doubtful: (a, b) => a.confidence - b.confidence || a.number - b.number,
    mixed: (a, b) => (a.purity ?? 2) - (b.purity ?? 2) || a.number - b.number,
  };
  let clusters = [], shown = clusters, page = 0;

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
    const [name, , confidence, margin, url] = data.pictures[gid];
    const button = element("button", "picture");
    button.type = "button";
    button.dataset.gid = gid;
    button.setAttribute("aria-pressed", String(bar.has(gid)));
    button.append(url ? image(url, name) : element("span", "nameless", name), element("span", "", caption));
    if (other) button.append(element("span", "other", other));
    button.addEventListener("click", () => {
      bar.toggle(gid);
      detail.textContent = `${name}: cluster ${edits.placeOf(gid)}, confidence ${confidence.toFixed(3)}, margin ${margin.toFixed(3)}, gid ${gid}`;
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
    const beside = [c.name && c.number !== edits.WASTE ? `cluster ${c.number}` : "", c.waste ? "marked as waste" : "", c.label !== null ? `mostly ${c.label}` : ""].filter(Boolean).join(", ");
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
    made.append(...grid("Moved here", c.moved, detail), ...grid("Most typical", c.typical, detail), ...grid("Least certain", c.doubtful, detail));
    made.append(made.childElementCount ? detail : element("p", "quiet", c.size ? "No pictures of this cluster are in the page." : "No image is in this cluster."));
    made.append(...actions(c));
    return made;
  }

  function action(text, does, key) {
    const made = element("button", "", text);
    made.type = "button";
    made.dataset.key = key;
    made.addEventListener("click", does);
    return made;
  }

  // Below the pictures of a cluster: its name to change, names that are proposed, and the way out of waste.
  function actions(c) {
    const restore = number => action(`Take cluster ${number} out of waste`, () => bar.restore(number), `restore-${number}`);
    if (c.waste) return [restore(c.number)];
    if (c.number === edits.WASTE) return c.restorable.map(restore);
    const form = element("form", "rename"), label = element("label", "", "Name "), input = element("input");
    input.value = c.name;
    input.placeholder = `cluster ${c.number}`;
    input.autocomplete = "off";
    input.maxLength = 200;
    input.dataset.key = `name-${c.number}`;
    label.append(input);
    const submit = element("button", "", "Rename");
    form.append(label, submit);
    form.addEventListener("submit", event => { event.preventDefault(); bar.rename(c.number, input.value); });
    const proposed = c.proposed.filter(name => name !== c.name);
    if (!proposed.length) return [form];
    const offers = element("p", "proposed", "Proposed, from the words beside its images: ");
    offers.append(...proposed.map((name, i) => action(name, () => bar.rename(c.number, name), `proposed-${c.number}-${i}`)));
    return [form, offers];
  }

  function clusterElement(c) {
    const made = element("details", "cluster"), entry = element("div", "entry");
    made.id = `cluster-${c.number}`;
    made.append(summary(c));
    made.addEventListener("toggle", () => {
      if (made.open) opened.add(c.number); else opened.delete(c.number);
      if (made.open && !made.querySelector(".body")) made.append(body(c));
    });
    if (opened.has(c.number)) { made.append(body(c)); made.open = true; }
    entry.append(picker(c), made);
    return entry;
  }

  function picker(c) {
    const label = element("label", "pick"), box = element("input");
    box.type = "checkbox";
    box.checked = bar.isPicked(c.number);
    box.disabled = c.waste || c.number === edits.WASTE;
    box.dataset.key = `pick-${c.number}`;
    box.addEventListener("change", () => bar.pick(c.number, box.checked));
    label.append(box, element("span", "unseen", `Select ${edits.nameOf(c)}`));
    return label;
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE)), key = document.activeElement?.dataset.key;
    page = Math.min(Math.max(page, 0), pages - 1);
    byId("list").replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(clusterElement));
    byId("found").textContent = `${shown.length.toLocaleString("en-US")} of ${clusters.length.toLocaleString("en-US")} clusters`;
    byId("pager").hidden = pages === 1;
    byId("where").textContent = `Page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
    bar.show();
    const again = key && document.querySelector(`#list [data-key="${key}"]`);
    if (again) again.focus(); else if (key) byId("edits").focus();
  }

  function choose(at = 0) {
    clusters = edits.clusters().map(c => ({ ...c, text: `${c.name} ${c.label ?? ""} ${c.proposed.join(" ")}`.toLowerCase() }));
    const words = byId("query").value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = clusters.filter(c => words.every(word => String(c.number) === word || c.text.includes(word)))
      .sort(orders[byId("order").value]);
    page = at;
    draw();
  }

  function turn(by) {
    page += by;
    draw();
    byId("clusters").scrollIntoView();
  }

  // A link to #cluster-12 shows and opens that cluster, on whatever page of the list it is.
  function follow() {
    const [, asked] = location.hash.match(/^#cluster-(\d+)$/) ?? [];
    const number = asked === undefined ? undefined : edits.get(Number(asked))?.number;
    if (number === undefined) return;
    if (!shown.some(c => c.number === number)) { byId("query").value = ""; choose(); }
    const at = shown.findIndex(c => c.number === number);
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

  function drawCopies() {
    for (const group of data.copies) {
      const row = element("div", "row"), detail = statusLine();
      row.append(...group.filter(gid => data.pictures[gid]).map(gid => picture(gid, `cluster ${data.pictures[gid][1]}`, detail)));
      if (row.childElementCount) byId("copy-rows").append(row, detail);
    }
  }

  function drawOutliers() {
    const box = byId("outlier-grid"), detail = statusLine();
    if (!box) return;
    for (const [gid, score] of data.outliers) if (data.pictures[gid]) box.append(picture(gid, score.toFixed(4), detail));
    box.after(detail);
  }

  byId("controls").addEventListener("submit", event => event.preventDefault());
  byId("query").addEventListener("input", () => choose());
  byId("order").addEventListener("change", () => choose());
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  addEventListener("hashchange", follow);
  choose();
  drawNeighbors();
  drawCopies();
  drawOutliers();
  follow();
  if (edits.count) bar.tell("Edits of an earlier visit are here again.");
  if (!edits.isKept) bar.tell("This browser keeps no edits over a reload: save before you leave.");
})();

"use strict";
// The bar below the list of clusters: what is selected, and what is done to it. `redraw` draws the list again.
const makeEditBar = (edits, redraw) => {
  const byId = id => document.getElementById(id);
  const clusters = new Set(), images = new Set();
  const many = (count, what) => `${count.toLocaleString("en-US")} ${what}${count === 1 ? "" : "s"}`;

  function tell(text) { byId("told").textContent = text; }

  function show() {
    for (const number of [...clusters]) if (edits.get(number)?.number !== number || edits.get(number).waste) clusters.delete(number);
    const picked = [clusters.size && many(clusters.size, "cluster"), images.size && many(images.size, "image")].filter(Boolean);
    byId("picked").textContent = picked.length ? `${picked.join(", ")} selected` : "Nothing selected";
    byId("join").disabled = !clusters.size;
    byId("move").disabled = !images.size;
    byId("waste").disabled = byId("clear").disabled = !picked.length;
    byId("undo").disabled = !edits.canUndo;
    byId("redo").disabled = !edits.canRedo;
    byId("save").disabled = !edits.count;
    byId("edited").textContent = edits.count ? `${many(edits.count, "edit")}${edits.isUnsaved ? ", not saved" : ", saved"}` : "No edits";
    byId("targets").replaceChildren(...edits.clusters().filter(c => !c.waste).map(c => {
      const option = document.createElement("option");
      option.value = edits.nameOf(c);
      return option;
    }));
    for (const button of document.querySelectorAll(".picture"))
      button.setAttribute("aria-pressed", String(images.has(Number(button.dataset.gid))));
  }

  function change(step, text) {
    edits.do(step);
    redraw();
    tell(text);
  }

  // The cluster that a text names: its number or its name; undefined for a name that is new, null for a number that is.
  function named(text) {
    if (text.toLowerCase() === "waste") return edits.WASTE;
    const usable = edits.clusters().filter(c => !c.waste);
    const [, number] = text.match(/^(?:cluster )?(\d+)$/i) ?? [];
    const found = usable.find(c => edits.nameOf(c) === text) ?? usable.find(c => String(c.number) === number);
    return found?.number ?? (number === undefined ? undefined : null);
  }

  function isName(text) {
    const fits = text.length <= 200 && !/[\p{C}\p{Z}]/u.test(text.replaceAll(" ", ""));
    if (!fits) tell("A name has at most 200 printable characters.");
    return fits;
  }

  function rename(number, text) {
    const name = text.trim(), own = edits.get(number);
    if (!name || name === edits.nameOf(own)) return tell("That is its name already.");
    if (name.toLowerCase() === "waste") return tell("Waste is no name: select the cluster and choose To waste.");
    if (!isName(name)) return undefined;
    const same = edits.clusters().find(c => !c.waste && c.number !== number && edits.nameOf(c) === name);
    if (same) return change([{ op: "join", clusters: [number], into: same.number }], `Cluster ${number} joined ${name}: clusters of one name are one.`);
    return change([{ op: "rename", cluster: number, name }], `Cluster ${number} is now ${name}.`);
  }

  function join() {
    const text = byId("target").value.trim(), chosen = [...clusters].sort((a, b) => a - b);
    let into = text ? named(text) : chosen[0];
    const step = [];
    if (into === null || into === edits.WASTE) return tell(into === null ? `There is no ${text}.` : "Choose To waste for that.");
    if (into === undefined) {
      if (!isName(text)) return undefined;
      into = chosen[0];
      step.push({ op: "rename", cluster: into, name: text });
    }
    const joined = chosen.filter(number => number !== into);
    if (!joined.length) return tell("Select another cluster too, or say into which one.");
    clusters.clear();
    byId("target").value = "";
    return change([{ op: "join", clusters: joined, into }, ...step], `${many(joined.length, "cluster")} joined cluster ${into}.`);
  }

  function move() {
    const text = byId("target").value.trim(), step = [];
    if (!text) { byId("target").focus(); return tell("Say to which cluster: a number, a name, or a new name."); }
    let to = named(text);
    if (to === null) return tell(`There is no ${text}.`);
    if (to === undefined) {
      if (!isName(text)) return undefined;
      to = edits.next;
      step.push({ op: "create", cluster: to, name: text });
    }
    const moved = [...images].filter(gid => edits.placeOf(gid) !== to).sort((a, b) => a - b);
    if (!moved.length) return tell("They are there already.");
    images.clear();
    byId("target").value = "";
    return change([...step, { op: "move", images: moved, to }], `${many(moved.length, "image")} moved to ${to === edits.WASTE ? "waste" : `cluster ${to}`}.`);
  }

  function waste() {
    const step = [], chosen = [...clusters].sort((a, b) => a - b);
    const moved = [...images].filter(gid => edits.placeOf(gid) !== edits.WASTE).sort((a, b) => a - b);
    if (chosen.length) step.push({ op: "waste", clusters: chosen });
    if (moved.length) step.push({ op: "move", images: moved, to: edits.WASTE });
    clusters.clear();
    images.clear();
    if (step.length) change(step, `${[chosen.length && many(chosen.length, "cluster"), moved.length && many(moved.length, "image")].filter(Boolean).join(", ")} marked as waste.`);
  }

  function clear() { clusters.clear(); images.clear(); redraw(); tell("Selection cleared."); }
  function undo() { if (edits.canUndo) { edits.undo(); redraw(); tell("Undone."); } }
  function redo() { if (edits.canRedo) { edits.redo(); redraw(); tell("Done again."); } }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([edits.file()], { type: "application/json" }));
    link.download = "edits.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    edits.saved();
    show();
    tell("Saved as edits.json: apply it with rayscan apply RUN edits.json.");
  }

  function shortcut(event) {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox") return;
    const pressed = event.key.toLowerCase();
    if (pressed === "z" || pressed === "y") {
      event.preventDefault();
      (pressed === "y" || event.shiftKey ? redo : undo)();
    }
  }

  for (const [id, does] of Object.entries({ join, move, waste, clear, undo, redo, save })) byId(id).addEventListener("click", does);
  byId("edits").addEventListener("submit", event => event.preventDefault());
  addEventListener("keydown", shortcut);
  addEventListener("beforeunload", event => { if (edits.isUnsaved) event.preventDefault(); });
  byId("edits").hidden = false;

  return {
    show, rename, tell,
    has: gid => images.has(gid),
    toggle(gid) { if (!images.delete(gid)) images.add(gid); show(); },
    isPicked: number => clusters.has(number),
    pick(number, is) { if (is) clusters.add(number); else clusters.delete(number); show(); },
    restore: number => change([{ op: "restore", clusters: [number] }], `Cluster ${number} is taken out of waste.`),
  };
};

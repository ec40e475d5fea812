"use strict";
// Clusters after edits, and the edits themselves: what rayscan/edits/clusters.py does, for what the page shows.
// Knows nothing of the document. An operation is a record of edits.json; a step is what one click did.
const makeEdits = data => {
  const WASTE = -1, SCHEMA = 1, key = `rayscan edits ${data.fingerprint}`;
  let steps = [], undone = [], saved = "[]", isKept = true;

  const nameOf = cluster => cluster.name || (cluster.number === WASTE ? "waste" : `cluster ${cluster.number}`);
  const operations = () => steps.flat();

  function blank(number, name) {
    return { number, name, size: 0, confidence: 0, purity: null, label: null, typical: [], doubtful: [], proposed: [],
             moved: [], made: true, waste: false, restorable: [] };
  }

  function begun() {
    const clusters = new Map();
    for (const [number, name, size, confidence, purity, label, typical, doubtful, proposed, restorable] of data.clusters)
      clusters.set(number, { ...blank(number, name), size, confidence, purity, label, made: false,
        typical: [...typical], doubtful: [...doubtful], proposed: proposed ?? [], restorable: restorable ?? [] });
    return { clusters, joined: new Map(), placed: new Map(), next: data.next };
  }

  function now(state, number) {
    while (state.joined.has(number)) number = state.joined.get(number);
    return number;
  }

  // The cluster that an image of the page is in.
  const placeOf = (state, gid) => now(state, state.placed.get(gid) ?? data.pictures[gid][1]);

  const without = (gids, gid) => gids.filter(other => other !== gid);

  function wanted(state, number) {
    if (number === WASTE && !state.clusters.has(WASTE)) state.clusters.set(WASTE, blank(WASTE, "waste"));
    const cluster = state.clusters.get(number);
    if (!cluster) throw new Error(`there is no cluster ${number}`);
    return cluster;
  }

  const act = {
    rename(state, { cluster, name }) { wanted(state, cluster).name = name; },
    create(state, { cluster, name }) {
      state.clusters.set(cluster, blank(cluster, name));
      state.next = cluster + 1;
    },
    join(state, { clusters, into }) {
      const target = wanted(state, into);
      for (const number of clusters) {
        const one = wanted(state, number), size = target.size + one.size;
        if (one === target) throw new Error("a cluster is not joined with itself");
        target.confidence = size ? (target.size * target.confidence + one.size * one.confidence) / size : 0;
        Object.assign(target, { size, purity: null, label: target.label === one.label ? target.label : null,
          typical: [...target.typical, ...one.typical], doubtful: [...target.doubtful, ...one.doubtful],
          moved: [...target.moved, ...one.moved] });
        state.clusters.delete(number);
        state.joined.set(number, into);
      }
    },
    waste(state, { clusters }) { for (const number of clusters) wanted(state, number).waste = true; },
    restore(state, { clusters }) {
      for (const number of clusters) {
        if (!state.clusters.has(number)) state.clusters.set(number, blank(number, ""));
        wanted(state, number).waste = false;
        const all = state.clusters.get(WASTE);
        if (all) all.restorable = without(all.restorable, number);
      }
    },
    move(state, { images, to }) {
      const target = wanted(state, to);
      for (const gid of images) {
        const from = state.clusters.get(placeOf(state, gid));
        if (from) {
          from.size -= 1;
          for (const list of ["typical", "doubtful", "moved"]) from[list] = without(from[list], gid);
        }
        target.size += 1;
        target.moved.push(gid);
        state.placed.set(gid, to);
      }
    },
  };

  function after(some) {
    const state = begun();
    for (const operation of some) act[operation.op](state, operation);
    return state;
  }

  let state = after([]);

  function keep() {
    state = after(operations());
    try {
      if (steps.length) localStorage.setItem(key, JSON.stringify({ steps, saved }));
      else localStorage.removeItem(key);
    } catch { isKept = false; }
  }

  // Edits that an earlier visit left; they are dropped if this page cannot do them.
  function recall() {
    try {
      const found = JSON.parse(localStorage.getItem(key) ?? "null");
      if (!found) return;
      after(found.steps.flat());
      ({ steps, saved } = found);
      state = after(operations());
    } catch { isKept = false; steps = []; }
  }
  recall();

  return {
    WASTE, nameOf,
    clusters: () => [...state.clusters.values()],
    get: number => state.clusters.get(now(state, number)),
    placeOf: gid => placeOf(state, gid),
    get next() { return state.next; },
    get count() { return operations().length; },
    get canUndo() { return steps.length > 0; },
    get canRedo() { return undone.length > 0; },
    get isUnsaved() { return JSON.stringify(operations()) !== saved; },
    get isKept() { return isKept; },
    do(step) { steps.push(step); undone = []; keep(); },
    undo() { undone.push(steps.pop()); keep(); },
    redo() { steps.push(undone.pop()); keep(); },
    file() { return JSON.stringify({ schema: SCHEMA, fingerprint: data.fingerprint, operations: operations() }, null, 1); },
    saved() { saved = JSON.stringify(operations()); keep(); },
  };
};

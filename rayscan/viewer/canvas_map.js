// Embedding Atlas (0.26) draws the points of its map by WebGPU with 16-bit floats, and nothing where a browser
// or a graphics adapter has none: on many Linux desktops, on remote ones, without a GPU. All else of its page
// works there. This script stands in: a GPU in name, which keeps what the page uploads (places, categories,
// the view and its colors) and draws the points on an ordinary canvas. Where there is a real one it does
// nothing. Densities and contours are left out.
"use strict";
(() => {
  const NEEDED = "shader-f16";
  const CONSTANTS = {
    GPUBufferUsage: {
      MAP_READ: 1, MAP_WRITE: 2, COPY_SRC: 4, COPY_DST: 8, INDEX: 16, VERTEX: 32, UNIFORM: 64, STORAGE: 128,
      INDIRECT: 256, QUERY_RESOLVE: 512,
    },
    GPUTextureUsage: { COPY_SRC: 1, COPY_DST: 2, TEXTURE_BINDING: 4, STORAGE_BINDING: 8, RENDER_ATTACHMENT: 16 },
    GPUShaderStage: { VERTEX: 1, FRAGMENT: 2, COMPUTE: 4 },
    GPUMapMode: { READ: 1, WRITE: 2 },
  };
  // Words of the uniforms of its shader, in 4 bytes.
  const COUNT = 0, CATEGORIES = 1, GAMMA = 6, POINT_SIZE = 7, MATRIX = 16, VIEW = 28, COLORS = 48;
  const nothing = () => {};
  let standsIn = false;

  // Draw points on a canvas: opaque discs, in the order of the rows.
  function draw(canvas, uniforms, [xs, ys, categories]) {
    const context = canvas.own;
    const { width, height } = canvas;
    const words = new Uint32Array(uniforms.bytes.buffer);
    const floats = new Float32Array(uniforms.bytes.buffer);
    const [x, y] = [xs, ys].map((buffer) => new Float32Array(buffer.bytes.buffer));
    const m = floats.subarray(MATRIX, MATRIX + 12); // three columns of four words
    const [wide, high] = [floats[VIEW], floats[VIEW + 1]];
    const colors = palette(words[CATEGORIES], floats);
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const disc = offsets(Math.max(1.5, floats[POINT_SIZE] / 2));
    for (let row = 0; row < words[COUNT]; row++) {
      const across = (m[0] * x[row] + m[4] * y[row] + m[8]) * wide;
      const up = (m[1] * x[row] + m[5] * y[row] + m[9]) * high;
      const left = Math.round((across / 2 + 0.5) * width);
      const top = Math.round((0.5 - up / 2) * height);
      if (!(left > -32 && left < width + 32 && top > -32 && top < height + 32)) continue;
      const color = colors[words[CATEGORIES] > 1 ? categories.bytes[row] : 0];
      for (const [dx, dy] of disc) {
        const [px, py] = [left + dx, top + dy];
        if (px >= 0 && px < width && py >= 0 && py < height) pixels[py * width + px] = color;
      }
    }
    context.putImageData(image, 0, 0);
  }

  // Colors of categories as words of RGBA, from linear light back to that of the screen.
  function palette(count, floats) {
    const byte = (value) => Math.round(255 * Math.min(1, Math.max(0, value)) ** (1 / floats[GAMMA]));
    return Array.from({ length: Math.max(1, Math.min(256, count)) }, (_, number) => {
      const [red, green, blue] = floats.subarray(COLORS + 4 * number, COLORS + 4 * number + 3);
      return ((255 << 24) | (byte(blue) << 16) | (byte(green) << 8) | byte(red)) >>> 0;
    });
  }

  function offsets(radius) {
    const inside = [];
    const most = Math.ceil(radius);
    for (let dy = -most; dy <= most; dy++)
      for (let dx = -most; dx <= most; dx++) if (dx * dx + dy * dy <= radius * radius) inside.push([dx, dy]);
    return inside;
  }

  function buffer({ size, usage }) {
    const bytes = new Uint8Array(Math.ceil(size / 16) * 16);
    return {
      size, usage, bytes, destroy: nothing, unmap: nothing,
      mapAsync: async () => {},
      getMappedRange: () => bytes.buffer.slice(0, size),
    };
  }

  function written(target, at, data, first = 0, count = undefined) {
    const unit = data.BYTES_PER_ELEMENT ?? 1;
    const all = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
    const some = all.subarray(first * unit, count === undefined ? undefined : (first + count) * unit);
    target.bytes.set(some.subarray(0, target.bytes.length - at), at);
  }

  // What one command buffer is told that matters here: the points last bound, and the canvas drawn on.
  function encoder() {
    const told = {};
    const pass = (view) => {
      told.canvas = view?.canvas ?? told.canvas;
      return {
        setPipeline: nothing, setVertexBuffer: nothing, setViewport: nothing, setScissorRect: nothing,
        draw: nothing, dispatchWorkgroups: nothing, end: nothing, setBlendConstant: nothing,
        setBindGroup: (number, group) => {
          const bound = group.entries.map((entry) => entry.resource.buffer).filter(Boolean);
          if (number === 0) told.uniforms = bound[0];
          if (number === 1 && bound.length === 3) told.points = bound;
        },
      };
    };
    return {
      clearBuffer: nothing, copyBufferToBuffer: nothing, copyTextureToBuffer: nothing,
      beginComputePass: () => pass(),
      beginRenderPass: ({ colorAttachments }) => pass(colorAttachments[0].view),
      finish: () => told,
    };
  }

  function device() {
    const object = () => ({ getBindGroupLayout: () => ({}) });
    const texture = () => ({ createView: () => ({}), destroy: nothing });
    return {
      limits: { maxBufferSize: 2 ** 31, maxStorageBufferBindingSize: 2 ** 31, maxTextureArrayLayers: 256 },
      features: new Set([NEEDED]),
      lost: new Promise(nothing),
      queue: {
        writeBuffer: written, writeTexture: nothing, onSubmittedWorkDone: async () => {},
        submit: (commands) => {
          for (const { canvas, uniforms, points } of commands)
            if (canvas && uniforms && points) draw(canvas, uniforms, points);
        },
      },
      addEventListener: nothing, destroy: nothing, pushErrorScope: nothing, popErrorScope: async () => null,
      createBuffer: buffer, createTexture: texture, createSampler: object, createShaderModule: object,
      createBindGroupLayout: object, createPipelineLayout: object, createRenderPipeline: object,
      createComputePipeline: object, createRenderPipelineAsync: async () => object(),
      createComputePipelineAsync: async () => object(), createCommandEncoder: encoder,
      createBindGroup: ({ entries }) => ({ entries }),
    };
  }

  const getContext = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...options) {
    if (kind !== "webgpu" || !standsIn) return getContext.call(this, kind, ...options);
    this.own = getContext.call(this, "2d", { willReadFrequently: true });
    return (
      this.own && {
        canvas: this, configure: nothing, unconfigure: nothing,
        getCurrentTexture: () => ({ createView: () => ({ canvas: this }) }),
      }
    );
  };

  const real = navigator.gpu;
  const requestAdapter = real?.requestAdapter?.bind(real) ?? (async () => null);
  const gpu = {
    wgslLanguageFeatures: real?.wgslLanguageFeatures ?? new Set(),
    getPreferredCanvasFormat: () => real?.getPreferredCanvasFormat?.() ?? "bgra8unorm",
    requestAdapter: async (...options) => {
      const adapter = await requestAdapter(...options).catch(() => null);
      standsIn = !adapter?.features.has(NEEDED);
      if (!standsIn) return adapter;
      return { limits: device().limits, features: new Set([NEEDED]), requestDevice: async () => device() };
    },
  };
  for (const [name, values] of Object.entries(CONSTANTS)) globalThis[name] ??= values;
  Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
})();

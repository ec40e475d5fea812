// Embedding Atlas draws its map with 16-bit floats, which many graphics adapters lack, as those of software
// and of remote desktops. There it is told that they are here, and computes with 32 bits instead: its shaders
// use them for one kind of buffer, blurred densities, which alone are made for storage and nothing else.
"use strict";
(() => {
  const HALF = "shader-f16";
  if (!navigator.gpu) return;
  const requestAdapter = navigator.gpu.requestAdapter.bind(navigator.gpu);

  function widened(device) {
    const createShaderModule = device.createShaderModule.bind(device);
    const createBuffer = device.createBuffer.bind(device);
    device.createShaderModule = (wanted) =>
      createShaderModule({
        ...wanted,
        code: wanted.code.replace(/\benable f16;/g, "").replace(/\bf16\b/g, "f32"),
      });
    device.createBuffer = (wanted) =>
      createBuffer(wanted.usage === GPUBufferUsage.STORAGE ? { ...wanted, size: 2 * wanted.size } : wanted);
    return device;
  }

  navigator.gpu.requestAdapter = async (...options) => {
    const adapter = await requestAdapter(...options);
    if (!adapter || adapter.features.has(HALF)) return adapter;
    const requestDevice = adapter.requestDevice.bind(adapter);
    Object.defineProperty(adapter, "features", { value: new Set([...adapter.features, HALF]) });
    adapter.requestDevice = async (wanted) =>
      widened(
        await requestDevice({
          ...wanted,
          requiredFeatures: wanted.requiredFeatures.filter((name) => name !== HALF),
        }),
      );
    return adapter;
  };
})();

import { html } from "./dom";
import type { Panel } from "./panel";
import type { Heads } from "./heads";

/** With more layers than this, the legend is a ramp. */
const MANY_LAYERS = 6;

/** Which colour stands for which layer: a name each, or a ramp from the first to the last. */
export function addLayerLegend(panel: Panel, { layers }: Heads, mark: string): void {
  if (layers.length <= MANY_LAYERS) {
    for (const [index, layer] of layers.entries()) panel.addLegend(mark, `layer ${layer}`, `var(--ik-layer-${index})`);
    return;
  }
  const ramp = layers.map((_, index) => {
    const part = html("span", { class: "ik-ramp" });
    part.style.background = `var(--ik-layer-${index})`;
    return part;
  });
  panel.legend.append(html("span", { class: "ik-key" }, `layer ${layers[0]}`, html("span", {}, ...ramp), `${layers.at(-1)}`));
}
